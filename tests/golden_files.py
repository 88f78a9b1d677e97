"""The golden vectors (tests/golden/README.md) in this library's layouts."""

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np

GOLDEN = Path(__file__).parent / "golden"


def load(name: str):
    """(arrays, description) of golden/NAME.npz and .json."""
    with np.load(GOLDEN / f"{name}.npz") as arrays:
        return dict(arrays), json.loads((GOLDEN / f"{name}.json").read_text())


def images(array):
    """[..., channel, height, width] to [..., height, width, channel]."""
    return jnp.asarray(np.moveaxis(array, -3, -1))


def torch_images(array):
    """[..., height, width, channel] to [..., channel, height, width]."""
    return np.moveaxis(np.asarray(array), -1, -3)


def parameters(shapes, seed):
    """The golden parameters by their formula (README), in PyTorch's layout and order."""
    tensors = {}
    for number, (name, shape) in enumerate(shapes):
        random = np.random.RandomState(seed + number)
        if len(shape) in (2, 4):
            bound = 1 / np.sqrt(np.prod(shape[1:]))
            tensors[name] = random.uniform(-bound, bound, size=shape)
        else:
            tensors[name] = random.uniform(-0.1, 0.1, size=shape) + name.endswith("weight")
    return tensors


def convnet_layers(shapes, norm="InstanceNorm"):
    """[(golden name, path in our parameters)] of a ConvNet, from the shapes of its tensors.

    A convolution's weight is 4-D, a norm's 1-D or 3-D; they are numbered as they come.
    """
    paths, convs, norms = [], -1, -1
    for name, shape in shapes:
        if name.startswith("classifier"):
            path = ("Dense_0", "kernel" if name.endswith("weight") else "bias")
        elif len(shape) == 4:
            convs += 1
            path = (f"Conv_{convs}", "kernel")
        elif name.endswith("weight"):
            norms += 1
            path = (f"{norm}_{norms}", "scale")
        else:
            path = (paths[-1][1][0], "bias")
        paths.append((name, path))
    return paths


def from_torch(name, tensor, feature_shape):
    """One tensor in our layout: output unit last, classifier input by height, width, channel."""
    if name == "classifier.weight":
        tensor = tensor.reshape(-1, *feature_shape)  # [out, channel, height, width]
        return tensor.transpose(2, 3, 1, 0).reshape(-1, tensor.shape[0])
    if tensor.ndim == 4:
        return tensor.transpose(2, 3, 1, 0)
    return tensor.transpose(1, 2, 0) if tensor.ndim == 3 else tensor


def convnet_params(shapes, seed, norm="InstanceNorm"):
    """The golden parameters as `ConvNet` takes them."""
    tensors = parameters(shapes, seed)
    channels = shapes[0][1][0]
    side = round((tensors["classifier.weight"].shape[1] / channels) ** 0.5)
    params = {}
    for name, (layer, leaf) in convnet_layers(shapes, norm):
        array = from_torch(name, tensors[name], (channels, side, side))
        params.setdefault(layer, {})[leaf] = jnp.asarray(array)
    return params


def error(ours, golden):
    """Largest absolute difference over largest absolute golden value."""
    ours, golden = np.asarray(ours, np.float64), np.asarray(golden)
    assert ours.shape == golden.shape, (ours.shape, golden.shape)
    return np.abs(ours - golden).max() / np.abs(golden).max()
