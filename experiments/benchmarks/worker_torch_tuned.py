"""The worker of `bench` that runs the tuned PyTorch port; it imports no JAX."""

from experiments.benchmarks import worker_torch
from experiments.benchmarks.torch_tuned import TUNED

if __name__ == "__main__":
    worker_torch.main(TUNED)
