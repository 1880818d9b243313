"""Page about one network as plain data, and its rendering as HTML, as Markdown and in a terminal."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from jinja2 import Environment, PackageLoader, StrictUndefined
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from nasx.escaping import printable
from nasx.reports.tables import fold


def render(template: str, *, escape: Callable[[str], str] | None = None, **values: Any) -> str:
    """Render a template of nasx/reports/html/templates; `escape` replaces the escaping of HTML."""
    environment = Environment(
        loader=PackageLoader("nasx.reports.html"),
        undefined=StrictUndefined,
        autoescape=escape is None,
        finalize=lambda value: _clean(value, escape) if type(value) is str else value,  # not for Markup
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(template).render(**values)


def _clean(text: str, escape: Callable[[str], str] | None) -> str:
    text = printable(text, lines=True, joiners=True)
    return text if escape is None else escape(text)


CELL_HEADING, SHAP_HEADING = "The cell", "Evidence for its decisions"


@dataclass(frozen=True)
class Section:
    """Heading with its content. Texts are plain: each renderer escapes them."""

    heading: str
    paragraphs: tuple[str, ...] = ()
    bullets: tuple[str, ...] = ()
    table: tuple[tuple[str, ...], ...] = ()  # rows, the first is the header; empty: no table
    figure: str = ""  # file name; empty: no figure
    alt: str = ""  # text alternative of the figure
    links: Mapping[str, str] = field(default_factory=dict)  # text of a first cell of the table -> address, in HTML only


@dataclass(frozen=True)
class Page:
    """Texts, tables and figure names of a page."""

    title: str
    facts: tuple[tuple[str, str], ...]  # (name, value with unit)
    sections: tuple[Section, ...]


def count(n: int, noun: str) -> str:
    """Return a number with its noun.

    >>> count(1, "image"), count(1797, "image")
    ('1 image', '1,797 images')
    """
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"


def ordinal(n: int) -> str:
    """Return an ordinal number.

    >>> [ordinal(n) for n in (1, 2, 3, 4, 11, 12, 21, 103)]
    ['1st', '2nd', '3rd', '4th', '11th', '12th', '21st', '103rd']
    """
    ending = "th" if n // 10 % 10 == 1 else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n}{ending}"


def as_markdown(page: Page) -> str:
    """Return the page as Markdown that refers to its figures by file name; all text is escaped."""
    return render("explanation.md.jinja", escape=escape_markdown, page=page)


def escape_markdown(text: str) -> str:
    r"""Return text on one line, with the characters escaped that are markup within a line of Markdown.

    >>> print(escape_markdown("<b> *x* | a_b"))
    \<b\> \*x\* \| a\_b
    """
    return re.sub(r"([\\`*_{}\[\]<>|~&#$])", r"\\\1", " ".join(text.split()))


def as_html(page: Page, figures: Mapping[str, bytes]) -> str:
    """Return the page as a self-contained HTML file; `figures` maps the file name of each figure to its PNG."""
    sources = {name: "data:image/png;base64," + base64.b64encode(png).decode() for name, png in figures.items()}
    return render("explanation.html.jinja", page=page, sources=sources)


VALUE_WIDTH = 56  # columns of 80 that the names of facts leave free


def as_terminal(page: Page) -> Group:
    """Return the texts and tables of a page for a terminal of 80 columns. No text is parsed as markup."""
    # these two sections explain a figure, which a terminal cannot show
    sections = [s for s in page.sections if s.heading not in (CELL_HEADING, SHAP_HEADING)]
    return Group(Text(page.title, style="bold"), _facts(page), *(_section(s) for s in sections))


def _facts(page: Page) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in page.facts:
        table.add_row(Text(name), Text(fold(value, VALUE_WIDTH)))
    return table


def _section(section: Section) -> Group:
    parts: list[RenderableType] = [Text(f"\n{section.heading}", style="bold"), *map(Text, section.paragraphs)]
    if section.bullets:
        grid = Table.grid(padding=(0, 1))
        for bullet in section.bullets:
            grid.add_row(Text("-"), Text(bullet))
        parts.append(grid)
    if section.table:
        parts.append(_table(section.table))
    return Group(*parts)


DIGITS = "0123456789-+"


def _column(rows: tuple[tuple[str, ...], ...], i: int) -> list[str]:
    return [row[i] for row in rows[1:]]


def _table(rows: tuple[tuple[str, ...], ...]) -> Table:
    header, *body = rows
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in header:
        is_outer = name in (header[0], header[-1])
        numbers = not is_outer and all(not cell or cell[0] in DIGITS for cell in _column(rows, header.index(name)))
        justify: Literal["left", "right"] = "left" if is_outer else "right"
        table.add_column(Text(name), justify=justify, overflow="fold", no_wrap=numbers)  # numbers are never broken
    for row in body:
        table.add_row(*map(Text, row))
    return table
