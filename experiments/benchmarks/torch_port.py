"""The paper's method as its authors run it: in PyTorch, one class and one batch after another.

The benchmark's reference; not a part of `gm_jax`.  It is written from the method's description and
tested against the golden vectors, so that both programs do the same work when they are timed.  What
can be done in another way at the same numbers is a `Way`; `torch_tuned` has the other one.

    python -m experiments.benchmarks.torch_port

prints the largest relative error for each golden file. Layouts are PyTorch's: images
`[n, channel, height, width]`, class-major sets `[C, n, channel, height, width]`.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD
from torch.utils.data import DataLoader, TensorDataset

from experiments.benchmarks.torch_networks import NETWORKS

GOLDEN_DIR = Path(__file__).resolve().parents[2] / "tests" / "golden"

Gradients = Sequence[Tensor]  # one tensor for each parameter, in the network's order
Distance = Callable[[Gradients, Gradients], Tensor]
Scheme = Callable[[Sequence[Gradients], Sequence[Gradients], Distance], Tensor]
Augment = Callable[[Tensor], Tensor]


class Way(NamedTuple):
    """How the parts are computed.

    Attributes:
        real_gradients: `(net, real [C, B, ch, h, w]) -> gT_c` of each class, as constants.
        synthetic_gradients: `(net, syn [C, ipc, ch, h, w]) -> gS_c` of each class, differentiable.
        inner_epoch: `(net, optimiser, images, labels, batch, augment)`; the mean loss.
        sgd: `torch.optim.SGD`, or one with other defaults.
        prepare: what is done to a network before it is used.
        match: `(way, net, syn, real_grads, scheme, distance)`, the matching loss; its gradient is
            left in `syn.grad`.
    """

    real_gradients: Callable[[nn.Module, Tensor], list[Gradients]]
    synthetic_gradients: Callable[[nn.Module, Tensor], list[Gradients]]
    inner_epoch: Callable[[nn.Module, SGD, Tensor, Tensor, int, Augment], Tensor | float]
    sgd: Callable[..., SGD]
    prepare: Callable[[nn.Module], nn.Module]
    match: Callable[["Way", nn.Module, Tensor, Sequence[Gradients], Scheme, Distance], Tensor]


def _cosine_rows(a: Tensor, b: Tensor) -> Tensor:
    """1 - <a, b> / (|a| |b|) of each row, `[rows, n] -> [rows]`; a zero row's cosine counts 0."""
    norms = a.norm(dim=1) * b.norm(dim=1)
    # No epsilon: the golden vectors exclude even 1e-8. Without the guard, dead units are 0 / 0.
    return 1 - (a * b).sum(1) / norms.masked_fill(norms == 0, 1)


def _weight_rows(a: Gradients, b: Gradients) -> list[tuple[Tensor, Tensor]]:
    """Pairs of tensors as `[output unit, rest]`; biases and norm scales (1-D) are left out."""
    return [(x.flatten(1), y.flatten(1)) for x, y in zip(a, b, strict=True) if x.ndim > 1]


def cosine(a: Gradients, b: Gradients) -> Tensor:
    """sum over tensors and rows of 1 - cos(a, b)."""
    return torch.stack([_cosine_rows(x, y).sum() for x, y in _weight_rows(a, b)]).sum()


def cosine_l2(a: Gradients, b: Gradients) -> Tensor:
    """sum over tensors and rows of 1 - cos(a, b) + |a - b|."""
    rows = _weight_rows(a, b)
    return torch.stack([(_cosine_rows(x, y) + (x - y).norm(dim=1)).sum() for x, y in rows]).sum()


def intra(syn: Sequence[Gradients], real: Sequence[Gradients], distance: Distance) -> Tensor:
    """sum_c D(gS_c, gT_c)."""
    return torch.stack([distance(s, t) for s, t in zip(syn, real, strict=True)]).sum()


def inter(syn: Sequence[Gradients], real: Sequence[Gradients], distance: Distance) -> Tensor:
    """C * D(mean_c gS_c, mean_c gT_c)."""
    return len(syn) * distance(_class_mean(syn), _class_mean(real))


def multi_level(syn: Sequence[Gradients], real: Sequence[Gradients], distance: Distance) -> Tensor:
    """intra + inter."""
    return intra(syn, real, distance) + inter(syn, real, distance)


def _class_mean(per_class: Sequence[Gradients]) -> Gradients:
    return [torch.stack(tensors).mean(0) for tensors in zip(*per_class, strict=True)]


def class_loss(net: Callable[[Tensor], Tensor], images: Tensor, label: int) -> Tensor:
    """Mean cross-entropy of `[n, ch, h, w]` images that all have one label."""
    labels = torch.full((len(images),), label, device=images.device)
    return F.cross_entropy(net(images), labels)


def real_gradients(net: nn.Module, real: Tensor) -> list[Gradients]:
    """gT_c of each class of `real [C, B, ch, h, w]`, as constants."""
    parameters = list(net.parameters())
    gradients: list[Gradients] = []
    for label, images in enumerate(real):
        grads = torch.autograd.grad(class_loss(net, images, label), parameters)
        gradients.append([g.detach().clone() for g in grads])
    return gradients


def synthetic_gradients(net: nn.Module, syn: Tensor) -> list[Gradients]:
    """gS_c of each class of `syn [C, ipc, ch, h, w]`, differentiable in `syn`.

    `net.forward` is the network as it was before it may have been compiled: what `torch.compile`
    makes cannot be differentiated twice.
    """
    parameters = list(net.parameters())
    return [
        torch.autograd.grad(class_loss(net.forward, images, label), parameters, create_graph=True)
        for label, images in enumerate(syn)
    ]


def match(
    way: Way,
    net: nn.Module,
    syn: Tensor,
    real_grads: Sequence[Gradients],
    scheme: Scheme,
    distance: Distance,
) -> Tensor:
    """Matching loss of `syn [C, ipc, ch, h, w]`; its gradient is left in `syn.grad`."""
    loss = scheme(way.synthetic_gradients(net, syn), real_grads, distance)
    syn.grad = None
    loss.backward(inputs=[syn])  # the images alone, not the network
    return loss.detach()


def unchanged(given: Any) -> Any:
    """No augmentation of images, no preparation of a network."""
    return given


def inner_epoch(
    net: nn.Module,
    optimiser: SGD,
    images: Tensor,
    labels: Tensor,
    batch: int,
    augment: Augment,
) -> float:
    """One shuffled pass over `images [n, ch, h, w]`; the mean loss, each batch before its step."""
    data = TensorDataset(images, labels)
    total = 0.0
    for x, y in DataLoader(data, batch_size=batch, shuffle=True, num_workers=0):
        loss = F.cross_entropy(net(augment(x)), y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        total += loss.item() * len(y)  # waits for the device after each batch, as the authors' does
    return total / len(images)


AUTHORS = Way(real_gradients, synthetic_gradients, inner_epoch, SGD, unchanged, match)
"""One class after another at once, a data loader, an optimiser with its defaults."""

CPU = torch.device("cpu")

BATCH = 256
"""Images in a batch of an inner epoch."""


def network_optimiser(way: Way, net: nn.Module) -> SGD:
    """The optimiser of the network between outer steps."""
    return way.sgd(net.parameters(), lr=0.01, momentum=0.5)


def image_optimiser(syn: Tensor) -> SGD:
    """The optimiser of the synthetic images: one for all iterations, whose buffer is kept."""
    return SGD([syn], lr=0.1, momentum=0.5)


def no_report(outer_step: int) -> None:
    """No report."""


def iteration(
    way: Way,
    net: nn.Module,
    syn: Tensor,
    optimiser: SGD,
    draw: Callable[[int], Tensor],
    outer: int,
    inner: int,
    scheme: Scheme = multi_level,
    distance: Distance = cosine_l2,
    report: Callable[[int], None] = no_report,
) -> list[float]:
    """One network: `outer` updates of `syn [C, ipc, ch, h, w]`, in place.

    `inner` epochs on the synthetic set follow each outer step but the last. `draw(outer_step)`
    gives `real [C, B, ch, h, w]`; `report(outer_step)` is called at each step's end. Returns the
    matching loss of each outer step.
    """
    network_sgd = network_optimiser(way, net)
    labels = torch.arange(len(syn), device=syn.device).repeat_interleave(syn.shape[1])
    losses = []
    for step in range(outer):
        real_grads = way.real_gradients(net, draw(step))
        losses.append(way.match(way, net, syn, real_grads, scheme, distance).item())
        optimiser.step()
        if step < outer - 1:
            images = syn.detach().clone().flatten(0, 1)
            for _ in range(inner):
                way.inner_epoch(net, network_sgd, images, labels, BATCH, unchanged)
        report(step)
    return losses


def overfit_epochs(
    way: Way,
    net: nn.Module,
    optimiser: SGD,
    images: Tensor,
    labels: Tensor,
    val: Tensor,
    val_labels: Tensor,
    cap: int = 50,
) -> list[float]:
    """Inner epochs until the loss on `val` rises, or `cap`; the epoch that raised it is kept.

    Returns the validation losses, the first one before any epoch.
    """
    losses = [_validation_loss(net, val, val_labels)]
    for _ in range(cap):
        way.inner_epoch(net, optimiser, images, labels, BATCH, unchanged)
        losses.append(_validation_loss(net, val, val_labels))
        if losses[-1] > losses[-2]:
            break
    return losses


@torch.no_grad()
def _validation_loss(net: nn.Module, images: Tensor, labels: Tensor) -> float:
    return F.cross_entropy(net(images), labels).item()


def train_network(
    way: Way,
    net: nn.Module,
    images: Tensor,
    labels: Tensor,
    epochs: int,
    augment: Augment = unchanged,
) -> list[float]:
    """Evaluation training of one network on `images [n, ch, h, w]`; the mean loss of each epoch.

    The learning rate is 0.01 in the first `epochs // 2` epochs and 0.001 after them.
    """
    optimiser = way.sgd(net.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    losses = []
    for epoch in range(epochs):
        if epoch == epochs // 2:
            optimiser.param_groups[0]["lr"] *= 0.1  # the momentum buffer is kept
        losses.append(float(way.inner_epoch(net, optimiser, images, labels, BATCH, augment)))
    return losses


# --- the golden vectors: a check yields pairs (ours, golden) --------------------------------------

DISTANCES = {"baseline": cosine, "improved": cosine_l2}
SCHEMES = {"intra": intra, "inter": inter, "multi_level": multi_level}
Arrays = dict[str, Tensor]
Pairs = Iterator[tuple[Tensor, Tensor]]


def golden_params(params: Sequence[tuple[str, Sequence[int]]], seed: int) -> list[np.ndarray]:
    """The parameters of the golden vectors; tensor t of (name, shape) is drawn with seed + t."""
    arrays = []
    for t, (name, shape) in enumerate(params):
        random = np.random.RandomState(seed + t)
        matrix = len(shape) in (2, 4)
        bound = 1 / np.sqrt(np.prod(shape[1:])) if matrix else 0.1
        centre = 1 if name.endswith("weight") and not matrix else 0
        arrays.append(centre + random.uniform(-bound, bound, size=shape))
    return arrays


def with_golden_params(net: nn.Module, about: dict, seed: int) -> nn.Module:
    """The network of a golden json, whose parameter names and order must be ours."""
    names = [name for name, _ in net.named_parameters()]
    if names != [name for name, _ in about["params"]]:
        raise ValueError(f"parameters {names} are not those of the golden file")
    with torch.no_grad():
        arrays = golden_params(about["params"], seed)
        for parameter, array in zip(net.parameters(), arrays, strict=True):
            parameter.copy_(torch.from_numpy(array))
    return net


def golden_network(way: Way, about: dict, like: Tensor) -> nn.Module:
    """The ConvNet of a golden json about a part of the method, of the type and where `like` is."""
    sizes = about["channel"], about["classes"], about["size"], about["net"]["w"]
    net = way.prepare(NETWORKS["convnet"](*sizes).to(like))
    return with_golden_params(net, about, about["params_seed"])


def check_networks(way: Way, about: dict, golden: Arrays) -> Pairs:
    """Logits of each network on grey and colour images."""
    for network in NETWORKS.values():
        for channel in (1, 3):
            name = f"{network.__name__}_{channel}ch"
            side = about[name]["size"]
            logits = golden[f"{name}/logits"]
            net = way.prepare(network(channel, 10, side).to(logits))
            net = with_golden_params(net, about[name], 4000)
            pixels = np.random.RandomState(4999).standard_normal((4, channel, side, side))
            yield net(torch.from_numpy(pixels).to(logits)), logits


def check_matching(way: Way, about: dict, golden: Arrays) -> Pairs:
    """Real gradients, distances, matching losses, image gradients."""
    net = golden_network(way, about, golden["real"])
    real, syn = golden["real"], golden["syn"].requires_grad_()
    losses = [class_loss(net, images, label).detach() for label, images in enumerate(real)]
    yield torch.stack(losses), golden["real_loss"]
    real_grads = way.real_gradients(net, real)
    names = [name for name, _ in about["params"]]
    stacked = [torch.stack(tensors) for tensors in zip(*real_grads, strict=True)]
    norms = torch.stack([tensor.flatten(1).norm(dim=1) for tensor in stacked])
    # all in one array: the gradient of a bias before an instance norm is rounding noise alone
    yield norms, torch.stack([golden[f"real_grad_norm/{name}"] for name in names])
    for name in ("features.0.weight", "classifier.weight"):
        yield stacked[names.index(name)], golden[f"real_grad/{name}"]
    for metric, distance in DISTANCES.items():
        pairs = zip(way.synthetic_gradients(net, syn), real_grads, strict=True)
        of_classes = torch.stack([distance(s, t) for s, t in pairs]).detach()
        del pairs  # a CUDA graph is not captured while an autograd graph of its network is alive
        yield of_classes, golden[f"intra/{metric}/per_class"]
        for name, scheme in SCHEMES.items():
            loss = way.match(way, net, syn, real_grads, scheme, distance)
            yield loss, golden[f"{name}/{metric}/loss"]
            assert syn.grad is not None
            yield syn.grad, golden[f"{name}/{metric}/grad_syn"]


def check_iteration(way: Way, about: dict, golden: Arrays) -> Pairs:
    """Losses, images and network norms after each outer step."""
    net = golden_network(way, about, golden["real"])
    syn = golden["syn0"].clone().unflatten(0, (about["classes"], about["ipc"])).requires_grad_()
    scheme, distance = SCHEMES[about["scheme"]], DISTANCES[about["metric"]]
    ours: Arrays = {}

    def report(step: int) -> None:
        ours[f"syn/{step + 1}"] = syn.detach().flatten(0, 1).clone()
        ours[f"net_after/{step}"] = torch.stack([p.detach().norm() for p in net.parameters()])

    draw = golden["real"].__getitem__
    optimiser, outer, inner = image_optimiser(syn), about["outer"], about["inner"]
    losses = iteration(way, net, syn, optimiser, draw, outer, inner, scheme, distance, report)
    ours |= {f"loss/{k}": torch.tensor(loss, dtype=torch.float64) for k, loss in enumerate(losses)}
    for name in golden.keys() - {"real", "syn0"}:
        yield ours[name], golden[name]
    # not in the golden file: no inner epochs follow the last outer step
    yield ours[f"net_after/{outer - 1}"], ours[f"net_after/{outer - 2}"]


def check_overfit(way: Way, about: dict, golden: Arrays) -> Pairs:
    """Validation losses and the number of epochs."""
    net = golden_network(way, about, golden["syn"])
    syn, syn_labels, val, val_labels = (
        golden[name] for name in ("syn", "syn_labels", "val", "val_labels")
    )
    optimiser, cap = network_optimiser(way, net), about["max_steps"]
    losses = overfit_epochs(way, net, optimiser, syn, syn_labels, val, val_labels, cap)
    yield torch.tensor(len(losses) - 1), golden["steps"]
    yield torch.tensor(losses, dtype=torch.float64), golden["val_losses"]


def check_evaluate(way: Way, about: dict, golden: Arrays) -> Pairs:
    """Training losses and test logits."""
    net = golden_network(way, about, golden["syn"])
    losses = train_network(way, net, golden["syn"], golden["syn_labels"], about["epochs"])
    yield torch.tensor(losses, dtype=torch.float64), golden["train_losses"]
    yield net(golden["test"]), golden["test_logits"]


CHECKS = {
    "networks": check_networks,
    "matching_gray": check_matching,
    "matching_rgb": check_matching,
    "iteration_rgb": check_iteration,
    "iteration_gray_baseline": check_iteration,
    "overfit_easy": check_overfit,
    "overfit_stops": check_overfit,
    "evaluate_gray": check_evaluate,
}


def relative_error(ours: Tensor, golden: Tensor) -> float:
    """max |ours - golden| / max |golden|; infinite where the shapes differ."""
    ours = ours.to(golden)
    if ours.shape != golden.shape:
        return float("inf")
    return ((ours - golden).abs().max() / golden.abs().max()).item()


def check_file(way: Way, folder: Path, name: str, device: torch.device = CPU) -> float:
    """The largest relative error of one golden file, in float64."""
    about = json.loads((folder / f"{name}.json").read_text())
    arrays = {k: torch.from_numpy(array) for k, array in np.load(folder / f"{name}.npz").items()}
    golden = {
        k: array.to(device, torch.float64 if array.is_floating_point() else None)
        for k, array in arrays.items()
    }
    # NumPy's max, because Python's would lose a NaN
    return np.max([relative_error(*pair) for pair in CHECKS[name](way, about, golden)]).item()


def check(way: Way, golden_dir: Path, device: torch.device = CPU) -> dict[str, float]:
    """The largest relative error of every golden file about this method."""
    return {name: check_file(way, golden_dir, name, device) for name in CHECKS}


if __name__ == "__main__":
    for file, error in check(AUTHORS, GOLDEN_DIR).items():
        print(f"{file:24} {error:.1e}")
