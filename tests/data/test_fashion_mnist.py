"""Fashion-MNIST itself, from Debian's package, where that is installed.

The images are also read by the few lines here, which share nothing with the package.
"""

import gzip

import numpy as np
import pytest

import gm_jax
from gm_jax.data import files

FOLDER = files.FOLDERS["fashion_mnist"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not FOLDER.is_dir(), reason=f"needs {FOLDER}: apt-get install dataset-fashion-mnist"
    ),
]


def read(stem):
    """Images and labels of the files: 16 and 8 bytes before the values."""
    images = gzip.decompress((FOLDER / f"{stem}-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((FOLDER / f"{stem}-labels-idx1-ubyte.gz").read_bytes())
    pixels = np.frombuffer(images, np.uint8, offset=16).reshape(-1, 28, 28, 1)
    return pixels, np.frombuffer(labels, np.uint8, offset=8)


def sorted_images(images):
    return sorted(map(bytes, np.asarray(images)))


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def data(cache):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GM_JAX_CACHE", str(cache))
        return gm_jax.load("fashion_mnist")


def test_all_images_are_there_by_class(data):
    assert data.train.images.shape == (10, 6000, 28, 28, 1)
    assert np.asarray(data.train.counts).tolist() == [6000] * 10
    assert data.test_images.shape == (10000, 28, 28, 1)
    assert np.bincount(data.test_labels).tolist() == [1000] * 10


def test_the_pixels_have_the_published_statistics(data):
    pixels = np.asarray(data.train.images) / 255.0
    assert pixels.mean() == pytest.approx(0.2860, abs=5e-5)
    assert pixels.std() == pytest.approx(0.3530, abs=5e-5)


def test_the_images_of_each_class_are_those_in_the_files(data):
    images, labels = read("train")
    test_images, test_labels = read("t10k")
    for label in range(10):
        train, test = np.asarray(data.train.images[label]), data.test_images
        assert sorted_images(train) == sorted_images(images[labels == label])
        wanted = sorted_images(test_images[test_labels == label])
        assert sorted_images(np.asarray(test)[data.test_labels == label]) == wanted


def test_only_the_cache_file_stays(data, cache):
    assert [path.name for path in cache.iterdir()] == ["fashion_mnist-1.npz"]
    assert (cache / "fashion_mnist-1.npz").stat().st_size == pytest.approx(55.2e6, rel=0.01)
