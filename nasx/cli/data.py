"""`nasx data`: download a published dataset; look over one that is there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from nasx.cli.choosing import choose_dataset

if TYPE_CHECKING:
    from nasx.data.check import DataReport, PartReport

app = typer.Typer(help="Fetch a dataset, check one.", no_args_is_help=True)


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="cifar10, cifar100, mnist or fashion_mnist.")],
    root: Annotated[Path | None, typer.Option(help="Where it goes; the user's cache where not given.")] = None,
) -> None:
    """Download a published dataset: every file is checked by its hash, and resumed where it was cut off."""
    from nasx.data.fetch import cache_folder
    from nasx.data.fetch import fetch as download

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        tasks = {}

        def show(file: str, done: int, total: int | None) -> None:
            if file not in tasks:
                tasks[file] = bar.add_task(file)
            bar.update(tasks[file], completed=done, total=total)

        into = root or cache_folder()
        folder = download(name, into, progress=show)
    typer.echo(folder)
    Console(stderr=True).print(Text(f"Search with: --config {name} dataset.root={into}"), soft_wrap=True)


@app.command()
def check(
    dataset: Annotated[str, typer.Argument(help="A dataset's name, or a directory of class folders.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="E.g. dataset.root=DIR.")
    ] = None,
    sheet: Annotated[Path | None, typer.Option(help="Draw a contact sheet of it: a .png, .svg or .pdf file.")] = None,
) -> int:
    """Say what is there: counts, classes, balance, damaged files, leaks. Exit status 2 where it is not sound."""
    from nasx.data.check import check as look_over

    if sheet is not None:
        from nasx.reports.canvas import check_format, save  # matplotlib takes half a second
        from nasx.reports.contact_sheet import contact_sheet

        check_format(sheet)  # before anything slow
    with Console(stderr=True).status(f"Reading {dataset} ..."):
        report = look_over(choose_dataset(dataset, overrides or []))
    Console().print(Text(describe(report)), soft_wrap=True)
    if sheet is not None:
        save(contact_sheet(report), sheet)
        Console(stderr=True).print(Text(f"Contact sheet: {sheet}"), soft_wrap=True)
    return 0 if report.is_sound else 2


def describe(report: DataReport) -> str:
    """A report in lines for people."""
    lines = [f"{report.name}: {'sound' if report.is_sound else 'NOT sound'}"]
    lines += _part("training", report.train) + _part("test", report.test)
    if report.leaked:
        lines.append(f"{report.leaked:,} test images equal a training image, pixel for pixel")
    return "\n".join(lines)


def _part(name: str, part: PartReport) -> list[str]:
    lines = [f"{name}: no image can be read"]
    if part.shape is not None:
        channels, height, width = part.shape
        lines = [f"{name}: {part.n_images:,} images, {height} x {width}, {channels} channel{'s' * (channels != 1)}"]
    width_of_names = max((len(c) for c in part.class_names), default=0)
    lines += [f"  {c:<{width_of_names}}  {n:>9,}" for c, n in zip(part.class_names, part.counts, strict=True)]
    if part.repeated:
        lines.append(f"  {part.repeated:,} images equal an earlier one, pixel for pixel")
    if part.imbalance > 1.5:
        lines.append(f"  {part.imbalance:.1f} images of the commonest class for each one of the rarest")
    return lines + [f"  damaged: {sentence}" for sentence in part.damaged]
