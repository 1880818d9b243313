"""`nasx predict`: predictions of an exported network for images."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from nasx import terminal
from nasx.escaping import to_csv, to_json
from nasx.reports.text import clean

if TYPE_CHECKING:
    from nasx.export.predict import Prediction

FIELDS = ("file", "class", "probability", "confidence", "problem")


class Format(StrEnum):
    TABLE = "table"
    JSON = "json"
    CSV = "csv"


def predict(
    model: Annotated[Path, typer.Argument(help="A file or a directory that `nasx export` wrote.")],
    images: Annotated[list[str], typer.Argument(metavar="IMAGE...", help="Image files, folders of them, globs.")],
    format: Annotated[Format, typer.Option(help="A table for people, json and csv for programs.")] = Format.TABLE,  # noqa: A002
    trust: Annotated[
        bool, typer.Option("--trust", help="Load a .pt2 file, which can run any code that its author put into it.")
    ] = False,
) -> int:
    """Classify images: the class, its probability, and the probability that it is correct.

    Images of any size and format are cropped and resized for the model. Exit status 2 if one cannot be read.
    """
    from nasx.export import predict as predict_module

    files = predict_module.list_images(images)
    loaded = predict_module.load_model(model, trust=trust)
    answers = list(predict_module.predict(loaded, files))
    if format is Format.TABLE:
        terminal.answers().print(_table(answers))
    else:
        print(_json(answers) if format is Format.JSON else _csv(answers), end="")
    return 2 if any(answer.problem for answer in answers) else 0


def _table(answers: Sequence[Prediction]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for header in ("image", "class", "probability", "confidence"):
        is_text = header in ("image", "class")
        table.add_column(header, justify="left" if is_text else "right", no_wrap=not is_text, overflow="fold")
    for answer in answers:
        if answer.problem:
            table.add_row(Text(clean(str(answer.file))), Text(clean(answer.problem)), "-", "-", style="red")
        else:
            table.add_row(
                Text(clean(str(answer.file))),
                Text(clean(answer.label or "")),
                f"{answer.probability:.1%}",
                f"{answer.confidence:.1%}",
            )
    return table


def _rows(answers: Sequence[Prediction]) -> list[dict[str, object]]:
    return [
        dict(zip(FIELDS, (str(a.file), a.label, a.probability, a.confidence, a.problem or None), strict=True))
        for a in answers
    ]


def _json(answers: Sequence[Prediction]) -> str:
    return to_json(_rows(answers)) + "\n"


def _csv(answers: Sequence[Prediction]) -> str:
    return to_csv([FIELDS, *([*row.values()] for row in _rows(answers))])
