"""The page of an explanation on a terminal: facts, words and tables; the pictures lie in files."""

from __future__ import annotations

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from nasx.reports.explanation import CELL_HEADING, SHAP_HEADING, Page, Section
from nasx.reports.tables import fold

VALUE_WIDTH = 56  # what 80 columns leave beside the names of facts


def page_on_screen(page: Page) -> Group:
    """Everything that a page says, fit for 80 columns. Names from outside are text, never markup."""
    told = [s for s in page.sections if s.heading not in (CELL_HEADING, SHAP_HEADING)]  # those are pictures
    return Group(Text(page.title, style="bold"), _facts(page), *(_section(s) for s in told))


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


def _table(rows: tuple[tuple[str, ...], ...]) -> Table:
    header, *body = rows
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in header:
        table.add_column(Text(name), justify="left" if name in (header[0], header[-1]) else "right", overflow="fold")
    for row in body:
        table.add_row(*map(Text, row))
    return table
