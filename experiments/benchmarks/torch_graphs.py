"""The port as one who knows PyTorch would tune it for a GPU, at the same numbers.

On a GPU, launching hundreds of small kernels from Python takes longer than they do.  So each part,
the real gradients of all classes, the matching step with its double backward, and a training step,
is captured once as a CUDA graph and replayed.  Networks are compiled, but for the synthetic
gradients: what `torch.compile` makes cannot be differentiated twice.  Networks and optimisers of
one kind share their memory, which the graphs refer to: a fresh one is copied into it.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD

from experiments.benchmarks import torch_port
from experiments.benchmarks.torch_port import Augment, Distance, Gradients, Scheme, Way

WARM_UP = 3
"""Calls before the capture, in which libraries take their memory and kernels are compiled."""


def capture(function: Callable[..., Any], examples: Sequence[Tensor], kept: Sequence[Tensor] = ()):
    """`function` as a CUDA graph: copies its arguments in and replays.

    Args:
        function: of tensors; what it returns is overwritten by the next replay.
        examples: tensors of the shapes that it will be called with.
        kept: what calling it changes, and the calls made here must not.
    """
    held = [example.detach().clone() for example in examples]
    before = [tensor.detach().clone() for tensor in kept]
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            function(*held)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = function(*held)
    with torch.no_grad():
        for tensor, value in zip(kept, before, strict=True):
            tensor.copy_(value)

    def replay(*tensors: Tensor) -> Any:
        for mine, given in zip(held, tensors, strict=True):
            mine.copy_(given.detach())
        graph.replay()
        return results

    return replay


_GRAPHS: dict[tuple, Callable] = {}
"""Every captured part, by what it was captured for."""

_NETWORKS: dict[tuple, nn.Module] = {}
"""A compiled network of each kind, whose parameters the graphs refer to."""


def replay(part: tuple, function: Callable, tensors: Sequence[Tensor], kept: Sequence[Tensor] = ()):
    """The part's result, by a graph that its first call captures."""
    key = (*part, *((tensor.shape, tensor.dtype) for tensor in tensors))
    if key not in _GRAPHS:
        _GRAPHS[key] = capture(function, tensors, kept)
    return _GRAPHS[key](*tensors)


def real_gradients(net: nn.Module, real: Tensor) -> list[Gradients]:
    """gT_c of each class, by one graph."""
    of_classes = functools.partial(torch_port.real_gradients, net)
    return replay(("real", net), of_classes, [real])


def match(
    way: Way,
    net: nn.Module,
    syn: Tensor,
    real_grads: Sequence[Gradients],
    scheme: Scheme,
    distance: Distance,
) -> Tensor:
    """Matching loss of the synthetic images, and its gradient in `syn.grad`, by one graph."""
    tensors = len(real_grads[0])

    def loss_and_gradient(syn: Tensor, *flat: Tensor) -> tuple[Tensor, Tensor]:
        images = syn.detach().requires_grad_()
        real = [flat[at : at + tensors] for at in range(0, len(flat), tensors)]
        loss = scheme(way.synthetic_gradients(net, images), real, distance)
        return loss.detach(), torch.autograd.grad(loss, images)[0]

    flat = [tensor for gradients in real_grads for tensor in gradients]
    loss, syn.grad = replay(("match", net, scheme, distance), loss_and_gradient, [syn, *flat])
    return loss


def inner_epoch(
    net: nn.Module,
    optimiser: SGD,
    images: Tensor,
    labels: Tensor,
    batch: int,
    augment: Augment,
) -> Tensor:
    """One shuffled pass, a graph for each size of batch and learning rate; the mean loss."""
    parameters = list(net.parameters())
    momenta = [optimiser.state[p]["momentum_buffer"] for p in parameters]

    def step(x: Tensor, y: Tensor) -> Tensor:
        loss = F.cross_entropy(net(augment(x)), y)
        for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters)):
            assert parameter.grad is not None  # `sgd` made it
            parameter.grad.copy_(gradient)  # `backward` would not be captured
        optimiser.step()
        return loss.detach()

    part = ("step", net, optimiser, optimiser.param_groups[0]["lr"], augment)
    total = torch.zeros((), dtype=images.dtype, device=images.device)
    for chosen in torch.randperm(len(images), device=images.device).split(batch):
        tensors = [images[chosen], labels[chosen]]
        loss = replay(part, step, tensors, [*parameters, *momenta])
        total += loss * len(chosen)
    return total / len(images)


@functools.cache
def _optimiser(parameters: tuple[Tensor, ...], settings: tuple[tuple[str, float], ...]) -> SGD:
    """The one optimiser of these parameters and settings."""
    named: dict[str, Any] = dict(settings)
    optimiser = SGD(parameters, fused=True, **named)
    for parameter in parameters:
        if parameter.grad is None:  # else graphs that were captured before would lose theirs
            parameter.grad = torch.zeros_like(parameter)
        optimiser.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimiser


def sgd(parameters, **settings: float) -> SGD:
    """`SGD` as if it were fresh: its momentum, which starts at the gradient, is 0 before that."""
    optimiser = _optimiser(tuple(parameters), tuple(settings.items()))
    for state in optimiser.state.values():
        state["momentum_buffer"].zero_()
    optimiser.param_groups[0]["lr"] = settings["lr"]
    return optimiser


def prepare(net: nn.Module) -> nn.Module:
    """The compiled network of the same kind, with the parameters of this one."""
    kind = (type(net), *((p.shape, p.dtype) for p in net.parameters()))
    if kind not in _NETWORKS:
        net.compile(dynamic=False)
        _NETWORKS[kind] = net
    held = _NETWORKS[kind]
    with torch.no_grad():
        for mine, given in zip(held.parameters(), net.parameters(), strict=True):
            mine.copy_(given)
    return held


GRAPHS = Way(real_gradients, torch_port.synthetic_gradients, inner_epoch, sgd, prepare, match)
