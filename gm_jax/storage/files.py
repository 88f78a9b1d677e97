"""Files that are written atomically, and JSON from untrusted sources."""

import contextlib
import json
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gm_jax.disk import flush
from gm_jax.errors import UserError

DRAFT = re.compile(r"\..+\.[0-9]+\.draft(\..+)?")
"""Names of files that are being written."""

LONGEST_JSON = 2**26
"""Bytes of the longest JSON file that is read."""


@contextlib.contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A path to write to, which takes the place of `path` if the block ends without an error."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.draft{path.suffix}")
    try:
        yield draft
        flush(draft)  # else a power cut may leave the name without the contents
        os.replace(draft, path)
        flush(path.parent)
    finally:
        draft.unlink(missing_ok=True)


def drafts(folder: Path) -> list[Path]:
    """The files of a folder that are being written, or that a killed process left."""
    if not folder.is_dir():
        return []
    return [path for path in folder.iterdir() if DRAFT.fullmatch(path.name) and path.is_file()]


def write_json(path: Path, value: Any) -> None:
    """`value` as indented JSON; NaN and infinity are refused, for JSON has none."""
    with atomic(path) as draft:
        draft.write_text(json.dumps(value, indent=2, allow_nan=False) + "\n")


def parse_json(text: str) -> Any:
    """What a JSON text says; `ValueError` where it is none, or has a number that is not finite."""
    return json.loads(text, parse_constant=_finite, parse_float=_finite)


def _finite(number: str) -> float:
    """Python's reader takes NaN, infinity and 1e999, none of which `write_json` could write."""
    value = float(number)
    if not math.isfinite(value):
        raise ValueError(f"{number} is not finite")
    return value


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        UserError: it cannot be read, or is damaged.
    """
    try:
        if path.stat().st_size > LONGEST_JSON:
            raise UserError(f"{path} is longer than anything that gm-jax writes")
        return parse_json(path.read_text())
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged: it is no JSON") from error
