"""The worker of `bench` that runs the PyTorch port, as its authors work; it imports no JAX."""

import functools
from typing import Any

import torch
from torch import Tensor, nn

from experiments.benchmarks import torch_port
from experiments.benchmarks.cases import (
    CLASSES,
    EPOCH,
    EVALUATION,
    ITERATION,
    MATCH,
    REAL,
    SHAPES,
    TEST_IMAGES,
    Case,
)
from experiments.benchmarks.torch_networks import NETWORKS
from experiments.benchmarks.torch_port import Way
from experiments.benchmarks.torch_tuned import can_compile
from experiments.benchmarks.worker import Call, peak_resident_bytes, serve

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
TEST_BATCH = 256


def work(way: Way, case: Case) -> Call:
    """The computation of a case in the port."""
    height, width, channel = SHAPES[case.shape]

    def noise(*images: int) -> Tensor:
        return torch.randn(*images, channel, height, width, device=DEVICE)

    def fresh_network() -> nn.Module:
        with DEVICE:  # its parameters are drawn there
            return way.prepare(NETWORKS[case.network](channel, CLASSES, height))

    net, labels = fresh_network(), torch.arange(CLASSES, device=DEVICE)
    if case.part == REAL:
        real = noise(CLASSES, case.batch_real)
        return lambda: way.real_gradients(net, real)
    if case.part == MATCH:
        real_grads = [[torch.randn_like(p) for p in net.parameters()] for _ in range(CLASSES)]
        syn = noise(CLASSES, case.ipc).requires_grad_()
        return lambda: way.match(
            way, net, syn, real_grads, torch_port.multi_level, torch_port.cosine_l2
        )
    if case.part == ITERATION:
        real = noise(CLASSES, case.batch_real)
        return lambda: iteration(way, case, fresh_network(), noise(CLASSES, case.ipc), real)
    images, labels = noise(case.images), labels.repeat_interleave(case.ipc)
    if case.part == EPOCH:
        optimiser = torch_port.network_optimiser(way, net)
        rest = (torch_port.BATCH, torch_port.unchanged)
        return lambda: way.inner_epoch(net, optimiser, images, labels, *rest)
    assert case.part == EVALUATION, case.part
    test, test_labels = noise(TEST_IMAGES), torch.arange(TEST_IMAGES, device=DEVICE) % CLASSES

    def train_and_test():
        net = fresh_network()
        torch_port.train_network(way, net, images, labels, case.epochs)
        return accuracy(net, test, test_labels)

    return train_and_test


def iteration(way: Way, case: Case, net: nn.Module, syn: Tensor, real: Tensor) -> list[float]:
    """One iteration, with the same real images in every outer step, so that none are drawn."""
    syn.requires_grad_()
    optimiser = torch_port.image_optimiser(syn)
    outer, inner = case.outer_steps, case.inner_epochs
    return torch_port.iteration(way, net, syn, optimiser, lambda step: real, outer, inner)


@torch.no_grad()
def accuracy(net: nn.Module, images: Tensor, labels: Tensor) -> float:
    """The share of images whose largest logit is their label's."""
    batches = zip(images.split(TEST_BATCH), labels.split(TEST_BATCH), strict=True)
    right = sum((net(x).argmax(1) == y).sum().item() for x, y in batches)
    return right / len(images)


def prepare(way: Way, case: Case) -> tuple[Call, dict[str, float]]:
    """The case, ready to be called; the tuned port compiles in the first, untimed call.

    On a GPU that is made here, and the memory that it takes is told, beside what other cases hold.
    """
    if DEVICE.type == "cpu":
        return work(way, case), {}
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    call = work(way, case)

    def finished():
        call()
        torch.cuda.synchronize()

    finished()
    return finished, {"peak_bytes": torch.cuda.max_memory_allocated() - before}


def peak_bytes() -> int:
    """The most memory so far: the accelerator's, or this process's on a CPU."""
    return torch.cuda.max_memory_allocated() if DEVICE.type == "cuda" else peak_resident_bytes()


def check_grey(way: Way) -> dict[str, float]:
    """The errors on the golden files without colour, and of the networks: a third of the time."""
    grey = ("networks", "matching_gray", "iteration_gray_baseline", "evaluate_gray")
    return {name: torch_port.check_file(way, torch_port.GOLDEN_DIR, name, DEVICE) for name in grey}


def about() -> dict[str, Any]:
    """Version, threads, the device, and whether the tuned port is compiled."""
    device = torch.cuda.get_device_name() if DEVICE.type == "cuda" else "cpu"
    return {
        "torch": torch.__version__,
        "device": device,
        "threads": torch.get_num_threads(),
        "tuned_is_compiled": can_compile(),
    }


def main(way: Way) -> None:
    """Answers the requests of `bench`."""
    further = {
        "check": lambda: torch_port.check(way, torch_port.GOLDEN_DIR, DEVICE),
        "check grey": lambda: check_grey(way),
        "about": about,
    }
    serve(functools.partial(prepare, way), peak_bytes, further)


if __name__ == "__main__":
    main(torch_port.AUTHORS)
