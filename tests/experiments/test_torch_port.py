"""The PyTorch port computes what the golden vectors contain, so that timing it is fair."""

import pytest

pytest.importorskip("torch")

import torch

from experiments.benchmarks import torch_graphs, torch_port, torch_tuned

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


def called_again(function, examples, kept=()):
    """For a CUDA graph, which a CPU has none of: a call for a replay, into the same tensors."""
    held = [example.detach().clone() for example in examples]
    before = [tensor.detach().clone() for tensor in kept]
    results = function(*held)
    with torch.no_grad():
        for tensor, value in zip(kept, before, strict=True):
            tensor.copy_(value)

    def replay(*tensors):
        for mine, given in zip(held, tensors, strict=True):
            mine.copy_(given.detach())
        for mine, new in zip(leaves(results), leaves(function(*held)), strict=True):
            mine.copy_(new)
        return results

    return replay


def leaves(tree):
    return [tree] if isinstance(tree, torch.Tensor) else [t for part in tree for t in leaves(part)]


@pytest.mark.parametrize("name", torch_port.CHECKS)
def test_the_parts_that_a_gpu_captures_agree_with_the_golden_file(name, monkeypatch):
    """Networks and optimisers share memory from one check to the next; nothing is compiled here."""
    monkeypatch.setattr(torch_graphs, "capture", called_again)
    monkeypatch.setattr(torch.nn.Module, "compile", lambda net, dynamic: None)
    assert torch_port.check_file(torch_graphs.GRAPHS, torch_port.GOLDEN_DIR, name) < 1e-9


def test_optimisers_of_one_network_leave_its_gradients_where_graphs_find_them():
    parameters = list(torch.nn.Linear(2, 1).parameters())
    torch_graphs.sgd(parameters, lr=0.01, momentum=0.5)
    before = [parameter.grad for parameter in parameters]
    torch_graphs.sgd(parameters, lr=0.01, momentum=0.9)
    assert all(parameter.grad is held for parameter, held in zip(parameters, before))
