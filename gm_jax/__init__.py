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

Names are imported when they are first used, from where `__init__.pyi` says: JAX takes a second to
import, which neither a version nor the command line's help needs.  Import a module by its own name,
as in `from gm_jax.core import distances`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
