"""The PyTorch port computes what the golden vectors contain, so that timing it is fair."""

import pytest

pytest.importorskip("torch")

import torch

from experiments.benchmarks import torch_port, torch_tuned

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """On a busy machine, threads that wait for each other are many times slower than one."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("way", [torch_port.AUTHORS, torch_tuned.TUNED], ids=["authors", "tuned"])
@pytest.mark.parametrize("name", torch_port.CHECKS)
def test_agrees_with_the_golden_file(name, way):
    # relative error = max |ours - golden| / max |golden|, the largest over the file's arrays
    assert torch_port.check_file(way, torch_port.GOLDEN_DIR, name) < 1e-9
