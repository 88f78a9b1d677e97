"""How cells are shown."""

import csv

import numpy as np

from experiments import page, sweep
from gm_jax.config import Config


def test_the_table_rounds_what_the_csv_holds(tmp_path):
    """Accuracies 0.5 and 0.7 of one set: mean 60, population deviation 10."""
    found = sweep.Found(
        "a", "b", "convnet", np.array([[0.5, 0.7]]), Config(), 3, seconds=1.0, inner_epochs=2.0
    )
    assert page.shown(found) == "60.0 ± 10.0 (1)"
    published = {"published": {"b": "61.2"}, "of another set": {"c": "50.0"}}
    table = page.accuracy_table("rows", [found], lambda one: one.column, published)
    assert table.rows == [["a", "60.0 ± 10.0 (1)"], ["published", "61.2"]]
    assert table.markdown.splitlines()[2:] == ["| a | 60.0 ± 10.0 (1) |", "| published | 61.2 |"]
    assert page.Table(["a|b"], []).markdown.splitlines() == [r"| a\|b |", "| --- |"]
    page.write_csv(tmp_path / "a.csv", [found])
    (row,) = csv.DictReader((tmp_path / "a.csv").read_text().splitlines())
    head = (tmp_path / "a.csv").read_text().splitlines()[0].split(",")
    assert len(set(head)) == len(head) == len(row)
    assert (row["mean"], row["std"], row["sets"], row["networks"]) == ("60.000", "10.000", "1", "2")
    assert row["set_means"] == "60.000"
    assert row["scheme"] == "multi-level"


def test_differences_are_of_pairs_of_sets():
    """Sets' means 60, 50 and 63, 51: differences 3 and 1, of mean 2, sd 2^(1/2), error 1."""

    def found(row, accuracies):
        config = Config(seeds=2)
        return sweep.Found(row, "b", "convnet", np.array(accuracies), config, 3, 1.0, 2.0)

    base = found("base", [[0.55, 0.65], [0.5, 0.5]])
    other = found("other", [[0.63, 0.63], [0.52, 0.5]])
    lost = found("lost", [[0.63, 0.63]])
    assert page.difference(other, base) == "+2.0 ± 1.0 (2)"
    (table,) = page.difference_tables("base", [base, other, lost], lambda one: one.column)
    assert table.rows == [["other", "+2.0 ± 1.0 (2)"], ["lost", "no pairs"]]
    assert page.difference(lost, found("another", [[0.5, 0.5]])) == "no pairs"  # of which seeds?
    seeds = other._replace(config=Config(seeds=2, seed=2))
    assert page.difference(seeds, base) == "no pairs"
    swept = other._replace(config=Config(seeds=2, inter_weight=(1.0, 10.0)))  # of one weight
    assert page.difference(swept, base) == "+2.0 ± 1.0 (2)"
    assert page.difference(other._replace(network="mlp"), base) == "no pairs"
    assert page.difference(other._replace(epochs=4), base) == "no pairs"
    assert page.difference(other._replace(tested=("idc", 0)), base) == "no pairs"
    wider = other._replace(config=Config(seeds=2, width=256))  # another network of this name
    assert page.difference(wider, base) == "no pairs"
    assert page.difference_tables("another", [base, other], lambda one: one.column) == []
