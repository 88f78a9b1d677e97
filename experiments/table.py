"""The command line that the tables share."""

import shlex
import signal
import sys
from collections.abc import Callable, Sequence

import tyro

from experiments.sweep import Scale
from gm_jax.config import MOST
from gm_jax.errors import StoppedError, UserError


def main(
    name: str,
    description: str,
    make: Callable[[Scale, str], None],
    arguments: Sequence[str] | None,
    settings: type[Scale] = Scale,
) -> int:
    """Parses a `Scale` and makes the table; returns the exit status.

    Args:
        name: of the module in `experiments`.
        description: for `--help`.
        make: `(scale, command)`, where `command` is what the user typed.
        arguments: of the command line; `None` is `sys.argv`.
        settings: `Scale`, or one that has more.
    """
    program = f"python -m experiments.{name}"
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    try:
        scale = tyro.cli(
            settings,
            prog=program,
            description=description,
            args=arguments,
            config=(tyro.conf.FlagCreatePairsOff,),
        )
        for field in ("count", "epochs", "lives", "train_epochs", "whole_epochs"):
            value = getattr(scale, field, None)
            if value is not None and not 1 <= value <= MOST:
                raise UserError(f"--{field.replace('_', '-')} {value}: must be 1 to {MOST}")
        make(scale, shlex.join([*program.split(), *arguments]))
    except (UserError, OSError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    except StoppedError as error:
        print(f"{name}: {error}; the same command goes on from there", file=sys.stderr)
        return 128 + signal.Signals[error.signal]
    except KeyboardInterrupt:
        print(f"{name}: interrupted; the same command goes on from there", file=sys.stderr)
        return 130
    return 0
