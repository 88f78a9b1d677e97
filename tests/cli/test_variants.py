"""A variant in a file outside the package: condensed, killed, resumed, evaluated, refused."""

import functools
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from command_line import SMALL, results

from gm_jax import load_condensed, variants

MY_RESEARCH = """\
import jax
import jax.numpy as jnp


def manhattan(a, b):
    return sum(jnp.sum(jnp.abs(p - q)) for p, q in zip(jax.tree.leaves(a), jax.tree.leaves(b)))


def with_manhattan(method):
    return method._replace(distance=manhattan)
"""

RUN = [
    *("condense", "--variant", "my_research:with_manhattan", *SMALL, "--seeds", "1"),
    *("--inter-weight", "1", "10", "--iterations", "30", "--checkpoint-every", "1"),
]
"""Two sets of one seed, of the inter weights 1 and 10."""


@pytest.fixture
def folder(tmp_path):
    """A folder of a user's own, with a variant in a file of at most 15 lines."""
    assert len(MY_RESEARCH.splitlines()) <= 15
    (tmp_path / "my_research.py").write_text(MY_RESEARCH)
    return tmp_path


def started(folder, *arguments):
    command = [sys.executable, "-m", "gm_jax", *map(str, arguments)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=pipe, stderr=pipe, text=True
    )


def gm_jax(folder, *arguments):
    """(exit status, standard output, standard error) of a command in a process of its own."""
    process = started(folder, *arguments)
    out, err = process.communicate()
    return process.returncode, out, err


@pytest.mark.slow
def test_a_variant_is_condensed_killed_resumed_and_evaluated(folder):
    """The resumed run is the unbroken one in every byte but the clock's."""
    assert gm_jax(folder, *RUN, "--out", "unbroken")[0] == 0
    process = started(folder, *RUN, "--out", "killed")
    while process.poll() is None and not list(folder.glob("killed/checkpoints/[0-9]*.npz")):
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (folder / "killed" / "synthetic.npz").exists()
    for copy in ("ended", "changed"):
        shutil.copytree(folder / "killed", folder / copy)
    status, _, err = gm_jax(folder, *RUN, "--out", "killed", "--resume")
    assert status == 0, err
    assert "resumes at iteration" in err
    assert results(folder / "killed") == results(folder / "unbroken")

    status, _, err = gm_jax(folder, "finish", "ended")
    assert status == 0, err
    assert load_condensed(folder / "ended").variant.name == "my_research:with_manhattan"

    status, out, err = gm_jax(folder, "evaluate", "killed", "--count", 1, "--epochs", 2)
    assert status == 0, err
    assert "condensed, inter_weight 10" in out
    found = json.loads((folder / "killed" / "evaluation.json").read_text())["convnet"]
    kinds = {"condensed, inter_weight 1", "condensed, inter_weight 10", "random real"}
    assert set(found) == kinds | {"protocol"}

    # another distance gives other images, and config.json says which it was
    plain = [word for word in RUN if word not in RUN[1:3]]
    assert gm_jax(folder, *plain, "--out", "plain")[0] == 0
    with (
        np.load(folder / "plain/synthetic.npz") as one,
        np.load(folder / "killed/synthetic.npz") as two,
    ):
        assert not np.allclose(one["images"], two["images"], atol=1e-3)
    about = json.loads((folder / "killed" / "config.json").read_text())
    assert about["variant"]["name"] == "my_research:with_manhattan"
    assert len(about["variant"]["sha256"]) == 64

    with (folder / "my_research.py").open("a") as file:
        file.write("# changed\n")
    refusals = [
        ([*RUN, "--resume", "--out", "killed"], ["my_research:with_manhattan", "changed"]),
        ([*plain, "--resume", "--out", "killed"], ["my_research:with_manhattan, not None"]),
        (["finish", "changed"], ["my_research:with_manhattan", "changed"]),
    ]
    for command, words in refusals:
        status, out, err = gm_jax(folder, *command)
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert all(word in err for word in words), err


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("my_research", ["my_research", "MODULE:FUNCTION"]),
        ("my_research:nothing", ["my_research:nothing", "with_manhattan"]),
        ("missing:with_manhattan", ["missing", "cannot be imported"]),
        ("broken:f", ["broken", "ZeroDivisionError"]),
        ("script:f", ["script", "SystemExit"]),
        ("time:nothing", ["no such function in time"]),  # which has no file
    ],
)
def test_a_variant_that_is_none_is_one_line(folder, name, words):
    (folder / "broken.py").write_text("1 / 0")
    (folder / "script.py").write_text("import sys; sys.exit(0)")
    status, out, err = gm_jax(folder, "condense", "--variant", name, "--out", "run")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert all(word in err for word in words), err
    assert not (folder / "run").exists()


def test_the_record_of_a_bound_function_is_that_of_the_function():
    def mine(method, weight):
        return method

    bound = functools.partial(functools.partial(mine, weight=1), weight=2)
    name = "test_the_record_of_a_bound_function_is_that_of_the_function.<locals>.mine"
    assert variants.describe(bound) == variants.describe(mine)
    assert variants.describe(bound).name == f"{__name__}:{name}"
    assert (
        variants.describe(bound).sha256 == hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
    )


VECTORS = """\
from gm_jax.core.objectives import within


def with_vectors(method):
    learned = method.parametrisation._replace(
        start=lambda images: images.reshape(*images.shape[:2], -1),
        decode=lambda learned: learned.reshape(*learned.shape[:2], 8, 8, 1),
    )
    objective = lambda place, *rest: within(place, *rest)._replace(extra={"at": place.step + 0.5})
    schemes = tuple(scheme._replace(objective=objective) for scheme in method.schemes)
    return method._replace(parametrisation=learned, schemes=schemes)
"""


@pytest.mark.slow
def test_what_is_learned_may_have_another_shape_and_more_is_logged(folder):
    """Of two outer steps, 0 + 1/2 and 1 + 1/2: the mean is 1."""
    (folder / "vectors.py").write_text(VECTORS)
    run = ("condense", "--variant", "vectors:with_vectors", *SMALL, "--iterations", "3")
    assert gm_jax(folder, *run, "--out", "run")[0] == 0
    rows = [json.loads(line) for line in (folder / "run/metrics.jsonl").read_text().splitlines()]
    assert [row["extra"] for row in rows] == [{"at": 1.0}] * len(rows)
    found = load_condensed(folder / "run")
    assert found.learned.shape[2:] == (2, 64)
    np.testing.assert_array_equal(found.images.ravel(), found.learned.ravel())
    for words in (["show", "run"], ["report", "run"], ["export", "run", "--out", "images"]):
        assert gm_jax(folder, *words)[0] == 0


MY_SIGNALS = """\
import jax.numpy as jnp

from gm_jax import UserError, from_functions
from gm_jax.core.signals import features, hessian_vector, k_step

line = from_functions(lambda key: jnp.zeros((64, 10)), lambda w, x: x.reshape(len(x), -1) @ w)
whole = lambda method: method._replace(signal=k_step(2, 0.1))
other_shape = lambda method: method._replace(signal=hessian_vector(jnp.ones(3)))
featureless = lambda method: method._replace(network=line, signal=features)
none = lambda method: method._replace(signal=k_step(0, 0.1))
real = lambda method: method._replace(real_signal=k_step(2, 0.1))


def refuse(key, batch):
    raise UserError("not these images")


inner = lambda method: method._replace(inner_augment=refuse, microbatch=None)
never = lambda method: method._replace(outer_steps=0, microbatch=None)
ignored = lambda method: method._replace(signal=features)
vector = lambda method: method._replace(distance=lambda a, b: jnp.zeros(3) + sum(
    p.sum() for p in a.values() for p in p.values()
))


def branching(method):
    return method._replace(outer_steps=2 if method.image_lr > 0.01 else 1)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("whole", ["--microbatch 2", "no mean over images"]),
        ("real", ["--microbatch 2", "real_signal is no mean over images"]),
        ("other_shape", ["hessian_vector", "(3,)"]),
        ("featureless", ["no features"]),
        ("none", ["k is 0", "1 or more"]),
        ("inner", ["not these images"]),
        ("never", ["outer_steps is 0", "1 or more"]),
        ("ignored", ["distance", "one dimension", "mse_global"]),
        ("vector", ["distance must be a number, not float32[3]"]),
        ("branching", ["TracerBoolConversionError", "mine.py, line"]),
    ],
)
def test_a_part_that_does_not_fit_is_one_line(folder, name, words):
    """Before the folder is made."""
    (folder / "mine.py").write_text(MY_SIGNALS)
    variant = ("--variant", f"mine:{name}", "--dataset", "digits", "--microbatch", 2, "--width", 4)
    status, out, err = gm_jax(folder, "condense", *variant, "--out", "run")
    assert (status, out, err.count("\n")) == (2, "", 1), err
    assert all(word in err for word in words), err
    assert not (folder / "run").exists()
