"""The worker of `bench` that runs the tuned PyTorch port; it imports no JAX."""

import torch

from experiments.benchmarks import worker_torch
from experiments.benchmarks.torch_graphs import GRAPHS
from experiments.benchmarks.torch_tuned import TUNED

if __name__ == "__main__":
    torch._dynamo.config.recompile_limit = 64  # each case has batches of other sizes
    torch.backends.cudnn.benchmark = True  # the fastest algorithm for each shape; no use on a CPU
    worker_torch.main(GRAPHS if torch.cuda.is_available() else TUNED)
