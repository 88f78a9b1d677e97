"""The README's examples, run as they stand there (with fewer iterations, epochs, channels)."""

import re
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def example(number, *quicker):
    """The n-th block of Python, made quicker by substitutions that must each match once."""
    found = re.findall(r"```python\n(.*?)```", README.read_text(), re.S)[number]
    for pattern, replacement in quicker:
        found, changes = re.subn(pattern, replacement, found)
        assert changes == 1
    return found


def test_the_example_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert len(example(0).strip().splitlines()) <= 12
    quick = example(0, (r"iterations=\d+", "iterations=2, width=8"), (r"epochs=\d+", "epochs=2"))
    exec(compile(quick, "README.md", "exec"), {})
    assert (tmp_path / "grid.png").stat().st_size > 0
    assert "mean=" in capsys.readouterr().out


def test_a_distance_of_ones_own_runs(capsys):
    quick = example(1, (r"batch_real=64\)\nmethod", "batch_real=64, width=8)\nmethod"))
    exec(compile(quick, "README.md", "exec"), {})
    assert capsys.readouterr().out == "(1, 10, 1, 8, 8, 1)\n"
