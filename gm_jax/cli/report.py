"""`gm-jax report`: a run as one HTML file."""

import contextlib

from gm_jax.checks import check
from gm_jax.cli.commands import Report
from gm_jax.errors import UserError
from gm_jax.report import run
from gm_jax.storage import run_folder


def report(command: Report) -> None:
    """Writes the report and prints its path."""
    check(command)
    if command.run.is_file():
        raise UserError(f"{command.run} is a file: a report needs the whole run folder")
    path = command.out or command.run / "report.html"
    if not path.name or path.is_dir():
        raise UserError(f"--out {path} is a folder: name a file")
    if path.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"--out {path}: the report is HTML, so name it .html")
    found = run.gather(command.run)
    inside = run_folder.locked(command.run) if command.out is None else contextlib.nullcontext()
    try:
        with inside:
            run.write(found, path)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from error
    print(path)
