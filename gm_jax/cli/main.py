"""The command line.  JAX is not imported before there is work to do.

Status 0 only if the work was done; 2 for a user's mistake; 130 and 143 if a signal stopped it.
"""

import argparse
import contextlib
import io
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from gm_jax.checks import check
from gm_jax.cli.commands import Condense, Evaluate, Export, Finish, Prepare, Report, Show
from gm_jax.cli.ending import end, let_any_name_be_printed
from gm_jax.config import Config
from gm_jax.errors import UserError
from gm_jax.recipes import recipe

OTHER_COMMANDS = (
    Annotated[Finish, tyro.conf.subcommand("finish")]
    | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    | Annotated[Show, tyro.conf.subcommand("show")]
    | Annotated[Report, tyro.conf.subcommand("report")]
    | Annotated[Export, tyro.conf.subcommand("export")]
    | Annotated[Prepare, tyro.conf.subcommand("prepare")]
)


IN_PLAIN_WORDS = (
    (r"\.? ?[─-]{3,}╯? ?", "; "),  # between the parts of a complaint
    (r"invalid literal for int\(\) with base 10: ", "must be a whole number, not "),
    (r"could not convert string to float: ", "must be a number, not "),
    (r"no type matching .* could be instantiated from (\[.*?\])\. Got errors:.*?; ", r"not \1; "),
)
"""What tyro says that a user need not read, and what is said instead; regular expressions."""


def commands(arguments: Sequence[str]) -> Any:
    """The commands, `condense` with the defaults of the recipe that the arguments name."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--recipe", default="None")
    parser.add_argument("--dataset", default=Config.dataset)
    parser.add_argument("--ipc", type=int, default=Config.ipc)
    parser.add_argument("--factor", type=int)
    condense_with: Any = {}
    with contextlib.suppress(argparse.ArgumentError):  # of which tyro will complain
        named, _ = parser.parse_known_args(arguments)
        if named.recipe != "None":
            config = recipe(named.recipe, _name_of(named.dataset), named.ipc, named.factor)
            defaults = Condense(config, Path(), recipe=named.recipe)
            object.__setattr__(defaults, "out", tyro.MISSING)  # no path: it stays required
            condense_with = {"default": defaults}
    return Annotated[Condense, tyro.conf.subcommand("condense", **condense_with)] | OTHER_COMMANDS


def _name_of(dataset: str) -> str:
    if not Path(dataset).is_dir():
        return dataset
    from gm_jax.data.loading import name_of  # imports JAX

    return name_of(dataset)


def parse(
    arguments: Sequence[str],
    command: Any = None,
    prog: str = "gm-jax",
    description: str = "Condense image data sets by gradient matching, in JAX.",
) -> Any:
    """The command that the arguments stand for; a mistake in them as one line of `UserError`."""
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return tyro.cli(
                commands(arguments) if command is None else command,
                prog=prog,
                description=description,
                args=arguments,
                config=(tyro.conf.FlagCreatePairsOff,),
            )
    except SystemExit as leave:
        if not leave.code:
            raise
        raise UserError(_in_one_line(complaint.getvalue())) from None


def _in_one_line(complaint: str) -> str:
    """What stands in the box that tyro draws, but for its title and what arguments mean."""
    inside = [line[1:].rstrip(" │|") for line in complaint.splitlines()[1:]]
    words = " ".join(line for line in inside if not line.startswith(9 * " ")).split()
    text = " ".join(words)
    for pattern, plain in IN_PLAIN_WORDS:
        text = re.sub(pattern, plain, text)
    return text.strip("; ")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    let_any_name_be_printed()
    try:
        command = parse(arguments)
        check(command)
        # JAX takes a second to import, for which `--help` and mistakes need not wait
        from gm_jax.cli.work import run

        return run(command, arguments)
    except (UserError, OSError) as error:
        return end(str(error), 2)
    except KeyboardInterrupt:
        return end("interrupted", 130)
