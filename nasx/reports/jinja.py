"""How templates are filled in: what comes from outside is escaped, and what is not given is an error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


def render(template: str, *, escape: Callable[[str], str] | None = None, **values: Any) -> str:
    """A template of nasx/reports/templates, filled in; `escape`: how text is escaped, if not as in HTML."""
    environment = Environment(
        loader=PackageLoader("nasx.reports"),
        undefined=StrictUndefined,
        autoescape=escape is None,
        finalize=None if escape is None else lambda value: escape(value) if isinstance(value, str) else value,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(template).render(**values)
