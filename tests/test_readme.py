"""The README's example, run as it stands there (with fewer iterations and epochs)."""

import re
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def test_the_example_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    example = re.search(r"```python\n(.*?)```", README.read_text(), re.S).group(1)
    assert len(example.strip().splitlines()) <= 12
    quick, changes = re.subn(r"iterations=\d+", "iterations=2, width=8", example)
    assert changes == 1
    quick, changes = re.subn(r"epochs=\d+", "epochs=2", quick)
    assert changes == 1
    exec(compile(quick, "README.md", "exec"), {})
    assert (tmp_path / "grid.png").stat().st_size > 0
    assert "mean=" in capsys.readouterr().out
