"""The command line of tables and figures."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from experiments import command
from experiments.sweep import Scale
from gm_jax.cli.compile_cache import use_compile_cache

AnyScale = TypeVar("AnyScale", bound=Scale)


def main(
    name: str,
    description: str | None,
    make: Callable[[AnyScale, str], None],
    arguments: Sequence[str] | None,
    settings: type[AnyScale],
) -> int:
    """Parses a scale and makes the table, with compiled programs kept between runs.

    Args:
        name: the module's name in `experiments`.
        description: for `--help`.
        make: `(scale, command)`, where `command` is what the user typed.
        arguments: of the command line; `None` is `sys.argv`.
        settings: `Scale`, or a subclass with more settings.

    Returns:
        the exit status; see `command.main`.
    """

    def work(scale: AnyScale, typed: str) -> None:
        use_compile_cache()
        make(scale, typed)

    return command.main(f"experiments.{name}", description, settings, work, arguments)
