"""Report of a run as one self-contained HTML file."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any, Final

from markupsafe import Markup

from nasx.escaping import printable
from nasx.reports import palette
from nasx.reports.page import render

SCRIPTS: Final = (
    "dom",
    "state",
    "cell",
    "charts",
    "views",
    "lineage",
    "panel",
    "lists",
    "main",
)  # in the order of loading
COLORS: Final = ("blue", "vermillion", "green", "sky", "orange", "purple")


def run_page(data: Mapping[str, Any], *, live: bool = False) -> str:
    """Render the page of the data of `run_data`; `live`: the page polls its server for new data."""
    package = files("nasx.reports")
    templates = package / "html" / "templates" / "report"
    sources = [package / "vendor" / "plotly-basic.min.js", *(templates / f"{name}.js" for name in SCRIPTS)]
    scripts = [source.read_text("utf-8") for source in sources]
    members = {network["id"]: network for network in data["networks"]}
    return render(
        "report.html.jinja",
        data=data,
        front=[members[arch_id] for arch_id in data["front"]],
        live=live,
        palette={name: getattr(palette, name.upper()) for name in COLORS},
        style=Markup((templates / "report.css").read_text("utf-8")),
        json=Markup(json_in_html(data)),
        scripts=[Markup(script) for script in scripts],
        hashes=[Markup(f"'sha256-{_digest(script)}'") for script in scripts],
    )


def json_in_html(data: Any) -> str:
    """Return JSON for a script element: characters with a meaning in HTML, or that control text, are escaped.

    >>> json_in_html(["</script>&"])
    '["\\\\u003c/script\\\\u003e\\\\u0026"]'
    """
    text = json.dumps(_printable(data), allow_nan=False, separators=(",", ":"))  # ASCII: no U+2028
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _printable(data: Any) -> Any:
    if isinstance(data, str):
        return printable(data, lines=True, joiners=True)
    if isinstance(data, Mapping):
        return {_printable(key): _printable(value) for key, value in data.items()}
    return [_printable(item) for item in data] if isinstance(data, list | tuple) else data


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
