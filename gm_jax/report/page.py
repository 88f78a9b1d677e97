"""Pages from templates: one HTML file that needs no network and no other file."""

from typing import Any

from gm_jax._version import __version__
from gm_jax.errors import require


def render(template: str, **values: Any) -> str:
    """A page from a template of this package, everything in it escaped as HTML."""
    jinja2 = require("jinja2", "pictures")
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("gm_jax.report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(version=__version__, **values)
