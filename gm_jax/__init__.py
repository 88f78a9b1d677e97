"""Dataset condensation by gradient matching, in JAX (arXiv 2208.00311).

The names here are what a script needs; every equation is in the room that it belongs to:
`distances`, `gradients`, `matching`, `step_rules`, `condense`, `runs`, `evaluate`, `networks`,
`data`.
"""

from gm_jax.condensed import DivergedError, Synthetic, Watch, condense_dataset
from gm_jax.config import Config, build_method, build_network, start_runs
from gm_jax.core.iteration import CondenseState, IterationInfo, Method, init, iteration
from gm_jax.core.loop import run
from gm_jax.data.images import ClassImages, Dataset, by_class, denormalise, normalise
from gm_jax.data.loading import load
from gm_jax.errors import UserError
from gm_jax.evaluation.coresets import chosen_real, features, herding, k_center, random_real
from gm_jax.evaluation.protocol import (
    Protocol,
    evaluate_sets,
    paper_protocol,
    summarise,
    test_set,
    train_and_test,
)
from gm_jax.nn.convolution import conv2d
from gm_jax.nn.networks import ConvNet, Network, from_flax, from_functions
from gm_jax.storage.pictures import save_grid

__version__ = "0.1.0"

__all__ = [
    "ClassImages",
    "CondenseState",
    "Config",
    "ConvNet",
    "Dataset",
    "DivergedError",
    "IterationInfo",
    "Method",
    "Network",
    "Protocol",
    "Synthetic",
    "UserError",
    "Watch",
    "build_method",
    "build_network",
    "by_class",
    "chosen_real",
    "condense_dataset",
    "conv2d",
    "denormalise",
    "evaluate_sets",
    "features",
    "from_flax",
    "from_functions",
    "herding",
    "init",
    "iteration",
    "k_center",
    "load",
    "normalise",
    "paper_protocol",
    "random_real",
    "run",
    "save_grid",
    "start_runs",
    "summarise",
    "test_set",
    "train_and_test",
]
