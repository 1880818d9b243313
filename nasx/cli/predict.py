"""`nasx predict`: predictions of an exported network for images, and their sums by class."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from nasx import terminal
from nasx.cli.progress import Display
from nasx.escaping import to_csv, to_json
from nasx.reports.text import clean, duration
from nasx.terminal import Console

if TYPE_CHECKING:
    from nasx.export.predict import Prediction

FIELDS = ("file", "class", "probability", "confidence", "problem", "true_class")


class Format(StrEnum):
    TABLE = "table"
    JSON = "json"
    CSV = "csv"


def predict(
    model: Annotated[
        Path,
        typer.Argument(help="A model file, or a directory that `nasx export` wrote: onnx is preferred to safetensors."),
    ],
    images: Annotated[list[str], typer.Argument(metavar="IMAGE...", help="Image files, folders of them, globs.")],
    format: Annotated[Format, typer.Option(help="A table for people, json and csv for programs.")] = Format.TABLE,  # noqa: A002
    trust: Annotated[
        bool, typer.Option("--trust", help="Load a .pt2 file, which can run any code that its author put into it.")
    ] = False,
    threshold: Annotated[
        float, typer.Option(min=0, max=1, help="Count the predictions with a confidence below this number.")
    ] = 0.8,
) -> int:
    """Classify images: the class, its probability, and the probability that it is correct.

    Images of any size and format are prepared as for the training. Predictions are printed on stdout; the number of
    predictions by class on stderr, and if folders are named after classes, a confusion matrix with recall and
    precision. Exit status 2 if an image cannot be read; the others are classified.
    """
    log = Console(stderr=True)
    with log.status("Loading the model ..."):  # torch takes seconds to load
        from nasx.cli.predict_summary import print_summary
        from nasx.export import load
        from nasx.export import predict as predicting

        loaded = load.load_model(model, trust=trust)
        names = loaded.description.class_names
        listing = predicting.list_images(images, names)
    if model.is_dir():
        log.say(f"The model: {loaded.file}")
    answers = list(_shown(predicting.predict(loaded, listing.files), len(listing.files), log))
    if format is Format.TABLE:
        terminal.answers().print(_table(answers))
    else:
        print(_json(answers) if format is Format.JSON else _csv(answers), end="")
    if skipped := listing.skipped.describe():
        log.say(f"Skipped: {'; '.join(skipped)}.")
    if len(answers) > 1:
        print_summary(predicting.summarize(answers, names, threshold=threshold), threshold, log)
    return 2 if any(answer.problem for answer in answers) else 0


def _shown(predictions: Iterable[Prediction], n: int, log: Console) -> Iterator[Prediction]:
    """Yield predictions, with their number and the ETA on `log`."""
    started = time.monotonic()
    with Display(log, Text("")) as display:
        for i, prediction in enumerate(predictions, start=1):
            left = (time.monotonic() - started) / i * (n - i)
            line = f"{i:,} of {n:,} images, ETA {duration(left)}"
            display.draw(lambda line=line: Text(line))  # type: ignore[misc]
            if i < n and display.is_line_due():
                display.say(line)
            yield prediction


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
        dict(
            zip(
                FIELDS,
                (str(a.file), a.label, a.probability, a.confidence, a.problem or None, a.true_class),
                strict=True,
            )
        )
        for a in answers
    ]


def _json(answers: Sequence[Prediction]) -> str:
    return to_json(_rows(answers)) + "\n"


def _csv(answers: Sequence[Prediction]) -> str:
    return to_csv([FIELDS, *([*row.values()] for row in _rows(answers))])
