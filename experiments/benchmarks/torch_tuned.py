"""The port as one who knows PyTorch would tune it for a CPU, at the same numbers.

Real and synthetic gradients and inner epochs go in microbatches and are summed, each network's of
the sizes that were fastest for it: ConvNet's activations stay in the cache.  There is no data
loader, no wait after each batch, and a fused optimiser.  Where there is a C++ compiler, networks
are compiled, but for the synthetic gradients: what `torch.compile` makes cannot be differentiated
twice.  `bench` also gives its process an allocator that keeps its pages.

    python -m experiments.benchmarks.torch_tuned

prints the largest relative error for each golden file.
"""

import functools
import os
import shutil
import sys

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD

from experiments.benchmarks import torch_port
from experiments.benchmarks.torch_networks import ConvNet
from experiments.benchmarks.torch_port import Augment, Gradients, Way, class_loss

OF_REAL = 16
"""ConvNet: real images in a microbatch."""

OF_EPOCH = 10
"""ConvNet: images in a microbatch of an inner epoch, and of a synthetic gradient."""

OF_LARGER = 128
"""Images in a microbatch of VGG11 and ResNet18, which have 30 times the parameters."""


def real_gradients(net: nn.Module, real: Tensor) -> list[Gradients]:
    """gT_c of each class, summed over microbatches."""
    parameters = list(net.parameters())
    found: list[Gradients] = []
    for label, images in enumerate(real):
        total = [torch.zeros_like(p) for p in parameters]
        for part in images.split(_size(net, OF_REAL)):
            loss = class_loss(net, part, label) * (len(part) / len(images))
            torch._foreach_add_(total, torch.autograd.grad(loss, parameters))
        found.append(total)
    return found


def synthetic_gradients(net: nn.Module, syn: Tensor) -> list[Gradients]:
    """gS_c of each class, differentiable, summed over microbatches."""
    parameters = list(net.parameters())
    found: list[Gradients] = []
    for label, images in enumerate(syn):
        parts = [
            torch.autograd.grad(
                class_loss(net.forward, part, label) * (len(part) / len(images)),
                parameters,
                create_graph=True,
            )
            for part in images.split(_size(net, OF_EPOCH))
        ]
        found.append([functools.reduce(torch.add, tensors) for tensors in zip(*parts, strict=True)])
    return found


def inner_epoch(
    net: nn.Module,
    optimiser: SGD,
    images: Tensor,
    labels: Tensor,
    batch: int,
    augment: Augment,
) -> Tensor:
    """One shuffled pass; the mean loss, each batch before its step."""
    total = torch.zeros((), dtype=images.dtype, device=images.device)
    for chosen in torch.randperm(len(images), device=images.device).split(batch):
        optimiser.zero_grad(set_to_none=False)
        for part in chosen.split(_size(net, OF_EPOCH)):
            logits = net(augment(images[part]))
            loss = F.cross_entropy(logits, labels[part], reduction="sum")
            (loss / len(chosen)).backward()
            total += loss.detach()
        optimiser.step()
    return total / len(images)


def _size(net: nn.Module, of_convnet: int) -> int:
    return of_convnet if isinstance(net, ConvNet) else OF_LARGER


def can_compile() -> bool:
    """Whether there is the C++ compiler that `torch.compile` looks for."""
    usual = "clang++" if sys.platform == "darwin" else "g++"
    return shutil.which(os.environ.get("CXX", usual)) is not None


def prepare(net: nn.Module) -> nn.Module:
    """Compiles what calling the network does; `net.forward` stays as it was."""
    if can_compile():
        net.compile(dynamic=False)
    return net


TUNED = Way(
    real_gradients,
    synthetic_gradients,
    inner_epoch,
    functools.partial(SGD, fused=True),
    prepare,
    torch_port.match,
)

if __name__ == "__main__":
    for file, error in torch_port.check(TUNED, torch_port.GOLDEN_DIR).items():
        print(f"{file:24} {error:.1e}")
