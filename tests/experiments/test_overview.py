"""All recipes in one table."""

import dataclasses
import shlex
from pathlib import Path

import numpy as np
import pytest

from experiments import overview, page, sweep
from gm_jax import checks
from gm_jax.cli import main as cli
from gm_jax.cli.commands import Condense, Evaluate
from gm_jax.config import Config


def test_the_overview_has_errors_of_means_published_numbers_and_commands(tmp_path, capsys):
    """Sets' means 69, 70, 71: population deviation (2/3)^(1/2), error of the mean 3^(-1/2)."""
    config = Config(dataset="fashion_mnist", ipc=1, iterations=57, seeds=3, scheme="intra")
    accuracies = np.array([[0.69, 0.69], [0.69, 0.71], [0.71, 0.71]])
    found = sweep.Found("dc", "3 minutes", "convnet", accuracies, config, 300, 1.0, 2.0)
    other = dataclasses.replace(config, scheme="multi-level")  # not the recipe's
    alone = found._replace(row="best", accuracies=accuracies[:1], config=other)
    page.write_csv(tmp_path / "a.csv", [found, alone])
    lost = found._replace(row="idc", accuracies=np.empty((0, 0)), epochs=0)
    longer = found._replace(column="6 minutes", config=dataclasses.replace(config, iterations=114))
    page.write_csv(tmp_path / "b.csv", [lost, longer])
    assert overview.main([str(tmp_path / "a.csv"), str(tmp_path / "b.csv")]) == 0
    shown = capsys.readouterr().out.splitlines()
    name, about = "fashion_mnist, ipc 1", "300 | 3 | 57"
    assert shown[2:6] == [
        f"| {name} | dc | 70.0 ± 0.6 | 3 x 2 | {about} | 70.5 ± 0.6 |",
        f"| {name} | best, multi-level | 69.0 | 1 of 3 x 2 | {about} |  |",
        f"| {name} | idc | diverged | 0 of 3 x 0 | 0 | 3 | 57 | 81.0 |",
        f"| {name} | dc | 70.0 ± 0.6 | 3 x 2 | 300 | 6 | 114 | 70.5 ± 0.6 |",
    ]
    lines = [line.split()[1:] for line in shown if line.startswith("    gm-jax")]
    made = [cli.parse(line) for line in lines]
    folders = [one.out for one in made if isinstance(one, Condense)]
    assert len(set(folders)) == 4
    schemes = [one.config.scheme for one in made if isinstance(one, Condense)]
    assert schemes == ["intra", "multi-level", "intra", "intra"]
    evaluated = [one for one in made if isinstance(one, Evaluate)]
    assert [one.run for one in evaluated] == [folders[0], folders[1], folders[3]]
    for one in evaluated:
        checks.check(one.settings)


def test_commands_for_data_at_a_path_can_be_pasted(tmp_path, capsys):
    config = Config(dataset="/data/my pictures", ipc=1, iterations=5, scheme="intra")
    found = sweep.Found("dc", "3 minutes", "convnet", np.ones((1, 1)), config, 300, 1.0, 2.0)
    page.write_csv(tmp_path / "a.csv", [found])
    assert overview.main([str(tmp_path / "a.csv")]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "gm-jax" in line]
    condense, evaluate = (cli.parse(shlex.split(line)[1:]) for line in lines)
    assert condense.config.dataset == "/data/my pictures"
    assert condense.out == evaluate.run == Path("runs/my pictures-dc-ipc1-5")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "row,column\ndc\n",
        "row,column\ndc,3 minutes\n",
        "row,column\nwithout,3 minutes\n",
        "row,column,sets\ndc,3 minutes,many\n",
    ],
)
def test_what_is_no_table_of_recipes_is_refused_by_name(text, tmp_path, capsys):
    path = tmp_path / "a.csv"
    path.write_text(text)
    assert overview.main([str(path)]) == 2
    assert str(path) in capsys.readouterr().err
