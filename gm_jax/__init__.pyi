from ._version import __version__
from .api import condense, explain, finish, iterations
from .build import build_method, build_network, start_sets
from .condensed import Condensed, DivergedError
from .config import Config, Devices, Evaluation, list_sets
from .core.iteration import init, iteration
from .core.method import IterationInfo, Method, State, Variant
from .core.signals import Model, Signal, loss_gradient
from .data.images import ClassImages, Dataset, by_class, denormalise, normalise
from .data.loading import load
from .errors import UserError
from .evaluation.protocol import Protocol, evaluate_sets, paper_protocol, summarise, test_set
from .nn.convolution import conv2d
from .nn.networks import ConvNet, Network, from_flax, from_functions
from .recipes import recipe
from .scoring import Score, evaluate
from .storage.pictures import save_grid
from .storage.reading import load_condensed

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
