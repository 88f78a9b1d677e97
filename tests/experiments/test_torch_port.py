"""The PyTorch port computes what the golden vectors contain, so that timing it is fair."""

import pytest

pytest.importorskip("torch")

from experiments.benchmarks import torch_port

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", torch_port.CHECKS)
def test_agrees_with_the_golden_file(name):
    # relative error = max |ours - golden| / max |golden|, the largest over the file's arrays
    assert torch_port.check_file(torch_port.GOLDEN_DIR, name) < 1e-9
