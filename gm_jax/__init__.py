"""Dataset condensation by gradient matching, in JAX (arXiv 2208.00311).

The names here are what a script needs.  Every equation stands in the package of its concern:

    data/        where images come from, and drawing batches
    parallel/    many devices and many hosts
    nn/          networks and the convolutions that are fast inside loops
    core/        the method: signals, distances, objectives, step rules, the iteration
    evaluation/  protocols, coresets
    storage/     run folders, checkpoints, pictures, files of other programs
    report/      a run as one HTML file
    cli/         the command line
"""

from gm_jax._version import __version__
from gm_jax.api import condense, explain, finish, iterations
from gm_jax.build import build_method, build_network, start_sets
from gm_jax.condensed import Condensed, DivergedError
from gm_jax.config import Config, Devices, Evaluation, list_sets
from gm_jax.core.iteration import init, iteration
from gm_jax.core.method import IterationInfo, Method, State, Variant
from gm_jax.core.signals import Model, Signal, loss_gradient
from gm_jax.data.images import ClassImages, Dataset, by_class, denormalise, normalise
from gm_jax.data.loading import load
from gm_jax.errors import UserError
from gm_jax.evaluation.protocol import Protocol, evaluate_sets, paper_protocol, summarise, test_set
from gm_jax.nn.convolution import conv2d
from gm_jax.nn.networks import ConvNet, Network, from_flax, from_functions
from gm_jax.recipes import recipe
from gm_jax.scoring import Score, evaluate
from gm_jax.storage.pictures import save_grid
from gm_jax.storage.run_folder import read_condensed as load_condensed

__all__ = [
    "ClassImages",
    "Condensed",
    "Config",
    "ConvNet",
    "Dataset",
    "Devices",
    "DivergedError",
    "Evaluation",
    "IterationInfo",
    "Method",
    "Model",
    "Network",
    "Protocol",
    "Score",
    "Signal",
    "State",
    "UserError",
    "Variant",
    "__version__",
    "build_method",
    "build_network",
    "by_class",
    "condense",
    "conv2d",
    "denormalise",
    "evaluate",
    "evaluate_sets",
    "explain",
    "finish",
    "from_flax",
    "from_functions",
    "init",
    "iteration",
    "iterations",
    "list_sets",
    "load",
    "load_condensed",
    "loss_gradient",
    "normalise",
    "paper_protocol",
    "recipe",
    "save_grid",
    "start_sets",
    "summarise",
    "test_set",
]
