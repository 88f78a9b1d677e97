"""`gm-jax report`: a run as one HTML file."""

from gm_jax.cli.commands import Report
from gm_jax.errors import UserError
from gm_jax.report import run
from gm_jax.storage import locking


def report(command: Report) -> None:
    """Writes the report and prints its path."""
    if command.run.is_file():
        raise UserError(f"{command.run} is a file: a report needs the whole run folder")
    path = command.out or command.run / "report.html"
    if not path.name or path.is_dir():
        raise UserError(f"--out {path} is a folder: name a file")
    if path.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"--out {path}: the report is HTML, so name it .html")
    with locking.locked_for(path, command.run):
        found = run.gather(command.run)
        try:
            run.write(found, path)
        except OSError as error:
            raise UserError(f"{path} cannot be written: {error.strerror or error}") from error
    print(path)
