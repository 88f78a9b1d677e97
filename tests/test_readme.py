"""The Python examples of the documents, run as they stand (with fewer iterations and channels)."""

import dataclasses
import re
import sys
from pathlib import Path

import jupytext
import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient

import gm_jax
from experiments import overview

ROOT = Path(__file__).parents[1]


def examples(name):
    """The blocks of Python of a document."""
    return re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(), re.S)


def quicker(code):
    """Two iterations of a network of 4 channels and one block, 2 epochs."""
    code = re.sub(r"iterations=\d+, batch_real=\d+", "width=4, iterations=2", code)
    return re.sub(r"epochs=\d+", "epochs=2", code)


def run(code):
    names = {}
    exec(compile(quicker(code), "example", "exec"), names)
    return names


def test_the_readmes_example(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code = examples("README.md")[0]
    assert len(code.strip().splitlines()) <= 12
    run(code)
    assert (tmp_path / "grid.png").stat().st_size > 0
    assert "convnet condensed Summary(mean=" in capsys.readouterr().out


def test_the_readmes_distance(tmp_path, monkeypatch):
    """The file as it stands, imported by name as the command line does."""
    code = examples("README.md")[1]
    assert len(code.strip().splitlines()) <= 15
    (tmp_path / "my_research.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "my_research", raising=False)
    from gm_jax.variants import load_variant

    data = gm_jax.load("digits")
    config = gm_jax.Config(dataset="digits", ipc=1, depth=1, width=4, iterations=1, batch_real=8)
    ours = gm_jax.condense(config, data, load_variant("my_research:with_manhattan"))
    assert not np.allclose(ours.images, gm_jax.condense(config, data).images, atol=1e-3)
    monkeypatch.delitem(sys.modules, "my_research")


def test_the_results_open_with_the_tables_of_recipes():
    """Line by line what `experiments.overview` makes of the tables that are kept beside it."""
    tables = sorted((ROOT / "docs/results").glob("recipes_*_ipc*.csv"))
    page = (ROOT / "docs/results/README.md").read_text()
    assert page.split("\n## ")[0].endswith(overview.overview(tables))


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(examples("docs/research.md"))))
def test_the_research_guide(number, capsys):
    code = examples("docs/research.md")[number]
    assert len(code.strip().splitlines()) <= 25
    run(code)
    shape = re.search(r"# (\(\d.*\))", code)
    if shape:
        assert shape[1] in capsys.readouterr().out


@pytest.mark.slow
def test_the_variants_of_the_research_guide_condense(capsys):
    """Those that the guide only defines: one iteration each, to other images than the paper's."""
    data = gm_jax.load("digits")
    config = gm_jax.Config(
        dataset="digits", ipc=1, depth=1, width=4, iterations=1, batch_real=8, start="real"
    )
    config = dataclasses.replace(config, outer_steps=2)  # for what is between them
    plain = gm_jax.condense(config, data).images
    tried = 0
    for code in examples("docs/research.md"):
        if not re.search(r"gm_jax\.(condense|iteration)", code):
            for name, variant in run(code).items():
                if name.startswith("with_"):
                    images = gm_jax.condense(config, data, variant).images
                    assert not np.allclose(images, plain, atol=1e-6), name
                    tried += 1
    assert tried == 10


@pytest.mark.slow
def test_the_notebook_runs_and_was_run():
    """Its source, with two snapshots of a small network; what is committed holds the outputs."""
    source = (ROOT / "docs/notebooks/signals.py").read_text()
    committed = nbformat.read(ROOT / "docs/notebooks/signals.ipynb", 4)
    codes = lambda notebook: [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    assert codes(committed) == codes(jupytext.reads(source, "py:percent"))
    assert all(cell.outputs for cell in committed.cells if "plt.show" in cell.source)

    small = source.replace("width=64, iterations=160", "width=4, iterations=2")
    small = small.replace("(10, 20, 40, 80, 160)", "(1, 2)").replace("epochs=100", "epochs=2")
    notebook = jupytext.reads(small, "py:percent")
    ran = NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
    printed = [o.text for cell in ran.cells for o in cell.get("outputs", []) if "text" in o]
    assert any("two steps less gradient at the end" in text for text in printed)


def test_every_option_in_the_readme_is_one():
    """`--name` of a gm-jax command stands in the settings of that command."""
    from gm_jax.cli.commands import Condense, Evaluate, Export, Show

    of = {
        "condense": {*Condense.__dataclass_fields__, *gm_jax.Config.__dataclass_fields__},
        "evaluate": {*Evaluate.__dataclass_fields__, *gm_jax.Evaluation.__dataclass_fields__},
        "export": set(Export.__dataclass_fields__),
        "show": set(Show.__dataclass_fields__),
    }
    text = (ROOT / "README.md").read_text().replace("\\\n", "")
    found = re.findall(r"gm-jax (condense|evaluate|export|show)([^\n`]*)", text)
    options = [(c, o) for c, rest in found for o in re.findall(r"--([a-z-]+)", rest)]
    assert len(options) > 10
    for command, option in options:
        assert option.replace("-", "_") in of[command], (command, option)
