"""The golden vectors (tests/golden/README.md) in this library's layouts."""

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np

GOLDEN = Path(__file__).parent / "golden"
BEYOND = Path(__file__).parent / "golden_beyond"


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


def layers(shapes, norm="InstanceNorm"):
    """[(golden name, path in our parameters)] of a network, from the shapes of its tensors.

    A convolution's weight is 4-D, a dense layer's 2-D, a norm's 1-D or 3-D; they are numbered as
    they come.  A bias belongs to the weight before it.
    """
    paths, numbers = [], {}
    for name, shape in shapes:
        if name.endswith("weight"):
            kind = {4: "Conv", 2: "Dense"}.get(len(shape), norm)
            numbers[kind] = numbers.get(kind, -1) + 1
            path = (f"{kind}_{numbers[kind]}", "scale" if kind == norm else "kernel")
        else:
            path = (paths[-1][1][0], "bias")
        paths.append((name, path))
    return paths


def from_torch(tensor, feature_shape=()):
    """One tensor in our layout: output unit last; features by height, width, channel.

    `feature_shape` [channel, height, width]: of the images that a dense layer sees flattened.
    """
    if tensor.ndim == 2:
        tensor = tensor.reshape(-1, *(feature_shape or tensor.shape[1:]))
        return np.moveaxis(tensor, (0, 1), (-1, -2)).reshape(-1, len(tensor))
    if tensor.ndim == 4:
        return tensor.transpose(2, 3, 1, 0)
    return tensor.transpose(1, 2, 0) if tensor.ndim == 3 else tensor


def network_params(description, seed, norm="InstanceNorm"):
    """The golden parameters as our network takes them."""
    shapes = description["params"]
    channels = description["channel"]
    params, flattened = {}, False
    tensors = parameters(shapes, seed)
    for name, (layer, leaf) in layers(shapes, norm):
        tensor, feature_shape = tensors[name], ()
        if tensor.ndim == 4 and "shortcut" not in name:
            channels = len(tensor)
        if tensor.ndim == 2 and not flattened:  # only the first dense layer sees images
            side = round((tensor.shape[1] / channels) ** 0.5)
            feature_shape, flattened = (channels, side, side), True
        params.setdefault(layer, {})[leaf] = jnp.asarray(from_torch(tensor, feature_shape))
    return params


def error(ours, golden):
    """Largest absolute difference over largest absolute golden value."""
    ours, golden = np.asarray(ours, np.float64), np.asarray(golden)
    assert ours.shape == golden.shape, (ours.shape, golden.shape)
    return np.abs(ours - golden).max() / np.abs(golden).max()
