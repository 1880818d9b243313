"""`nasx data`: download a published dataset, check a dataset, show how similar its classes are, clear the cache."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich import box
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column, Table
from rich.text import Text

from nasx.cli.data_cache import cache
from nasx.cli.options import choose_dataset
from nasx.errors import SettingError
from nasx.escaping import printable, to_json
from nasx.terminal import Console, answers

if TYPE_CHECKING:
    from nasx.data.check import DataReport, FolderReport, Pair, PartReport
    from nasx.introspection.class_similarity import ClassSimilarity

WORDNET = "wordnet"


class Format(StrEnum):
    TABLE = "table"
    CSV = "csv"
    JSON = "json"


class CheckFormat(StrEnum):
    TEXT = "text"
    JSON = "json"


app = typer.Typer(help="Fetch a dataset, check one, compare its classes, clear the cache.", no_args_is_help=True)
app.command()(cache)


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="cifar10, cifar100, mnist or fashion_mnist.")],
    root: Annotated[Path | None, typer.Option(help="Directory for the files; by default the user's cache.")] = None,
) -> None:
    """Download a published dataset. Every file is checked by its hash; an interrupted download is resumed."""
    from nasx.data.download import cache_folder
    from nasx.data.download import fetch as download

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        tasks = {}

        def show(file: str, done: int, total: int | None) -> None:
            if file not in tasks:
                tasks[file] = bar.add_task(file)
            bar.update(tasks[file], completed=done, total=total)

        into = root or cache_folder()
        folder = download(name, into, progress=show)
    print(folder)
    Console(stderr=True).say(f"Search with: --config {name} dataset.root={into}")


@app.command()
def check(
    dataset: Annotated[str, typer.Argument(help="A dataset's name, or a directory of class folders.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="E.g. dataset.root=DIR.")
    ] = None,
    sheet: Annotated[
        Path | None, typer.Option(help="Draw sample images of each class into this .png, .svg or .pdf file.")
    ] = None,
    output: Annotated[CheckFormat, typer.Option("--format", help="json lists every finding.")] = CheckFormat.TEXT,
) -> int:
    """Check a dataset: layout, sizes, conversions, classes, damaged files, contradictions, leaks.

    Exit status 0 if it is sound, 2 if not; the last lines then say what to do.
    """
    from nasx.data.check import check_dataset

    if sheet is not None:
        from nasx.reports.figures.image_grid import contact_sheet
        from nasx.reports.figures.style import check_format, save  # matplotlib takes half a second to load

        check_format(sheet)  # before anything slow
    chosen = choose_dataset(dataset, overrides or [])
    with Progress(
        TextColumn("Reading images"), BarColumn(), TimeRemainingColumn(), console=Console(stderr=True), transient=True
    ) as bar:
        task = bar.add_task("", total=None)
        report = check_dataset(chosen, lambda done, total: bar.update(task, completed=done, total=total))
    if output is CheckFormat.JSON:
        print(to_json(report.as_record()))
    else:
        Console().print(Text(describe(report)), soft_wrap=True)
    if sheet is not None:
        save(contact_sheet(report), sheet)
        Console(stderr=True).say(f"Contact sheet: {sheet}")
    return 0 if report.is_sound else 2


@app.command()
def similarity(
    dataset: Annotated[str, typer.Option(help="A dataset's name, or a directory of class folders.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="E.g. dataset.root=DIR.")
    ] = None,
    source: Annotated[str, typer.Option(help="wordnet, or a CSV of your own similarities.")] = WORDNET,
    synsets: Annotated[
        Path | None,
        typer.Option(help="File with the WordNet id of each class, like n02123045: one per line, in order."),
    ] = None,
    wordnet: Annotated[
        Path, typer.Option(help="Directory of WordNet 3.0; `apt install wordnet-base` makes the default one.")
    ] = Path("/usr/share/wordnet"),
    output: Annotated[
        Format, typer.Option("--format", help="csv can be given to a scorer: scorer.similarity=FILE.")
    ] = Format.TABLE,
) -> None:
    """Show how similar classes are: the weights of class pairs in a scorer with `similarity`."""
    from nasx.introspection import class_similarity

    if source == WORDNET:
        names, known = _classes(dataset, overrides or [])
        if synsets is None and not class_similarity.is_synset(known[0]):
            raise SettingError("--synsets", f"must be given: {known[0]!r}, a class of {dataset}, is no id of WordNet")
        chosen = known if synsets is None else class_similarity.read_synsets(synsets)
        found = class_similarity.wordnet_similarity(names, chosen, wordnet=wordnet)
    elif synsets is not None:
        raise SettingError("--synsets", "needs --source wordnet")
    else:
        found = class_similarity.read_similarity(Path(source))
        found.check_names(_classes(dataset, overrides or [])[0])
    if output is Format.CSV:
        print(class_similarity.similarity_csv(found), end="")
    elif output is Format.JSON:
        shown = {"source": found.source, "class_names": found.class_names, "similarity": found.matrix.tolist()}
        print(to_json(shown, indent=None))
    else:
        answers().print(_matrix(found))


def _classes(name: str, overrides: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return a dataset's classes and their WordNet ids; the ids are the class names if the dataset has no others."""
    from nasx.data import cifar

    if name == cifar.ImageNet16.name:  # needs no files
        return cifar.class_names(), cifar.synsets()
    names = choose_dataset(name, overrides).train().class_names
    return names, names


def _matrix(similarity: ClassSimilarity) -> Table:
    table = Table(
        "class",
        *(Column(Text(name)) for name in similarity.class_names),
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        show_edge=False,
    )
    for name, row in zip(similarity.class_names, similarity.matrix, strict=True):
        table.add_row(Text(name), *(f"{value:.3f}" for value in row))
    return table


FEW: Final = 5  # findings of a kind that are printed; --format json has all


def describe(report: DataReport) -> str:
    """Return a report as lines of text."""
    lines = [f"{printable(report.name)}: {'sound' if report.is_sound else 'NOT sound'}"]
    if report.corrections:
        lines.append(f"corrections: {printable(report.corrections)}")
    if report.files:
        lines += _files(report.files)
    lines += _part("training", report.train) + _part("test", report.test)
    lines += _pairs("test images equal a training image, pixel for pixel", report.leaks)
    lines += _pairs("images are equal but in different classes", report.contradictions)
    if report.problems:
        lines += ["What to do:", *(f"  {printable(problem)}" for problem in report.problems)]
    return "\n".join(lines)


def _files(files: FolderReport) -> list[str]:
    facts = files.facts
    lines = [f"layout: {files.layout}"]
    if files.ignored:
        lines.append(f"ignored next to these folders: {', '.join(map(printable, _few(files.ignored)))}")
    if sizes := ", ".join(f"{height} x {width} ({name})" for name, (height, width) in facts.sizes.items()):
        lines.append(f"sizes in pixels, height x width: {sizes}")
    if facts.modes:
        lines.append(f"modes: {', '.join(f'{n:,} {mode}' for mode, n in facts.modes.most_common())}")
    lines += [f"conversion: {n:,} {printable(kind)}" for kind, n in facts.conversions.most_common() if n]
    if files.value_range:
        low, high = files.value_range
        lines.append(f"values of more than 8 bits: {low:g} to {high:g}; {files.levels} gray levels once read")
    return lines + [f"skipped: {printable(sentence)}" for sentence in files.skipped]


def _pairs(what: str, pairs: Sequence[Pair]) -> list[str]:
    if not pairs:
        return []
    shown = [
        f"  {printable(p.second)} ({printable(p.second_class)}) = {printable(p.first)} ({printable(p.first_class)})"
        for p in pairs[:FEW]
    ]
    return [f"{len(pairs):,} {what}:", *shown, *([f"  and {len(pairs) - FEW:,} more"] if len(pairs) > FEW else [])]


def _few(names: Sequence[str]) -> list[str]:
    return [*names[:FEW], *([f"and {len(names) - FEW} more"] if len(names) > FEW else [])]


def _part(name: str, part: PartReport) -> list[str]:
    lines = [f"{name}: no image can be read"]
    if part.shape is not None:
        channels, height, width = part.shape
        lines = [f"{name}: {part.n_images:,} images, {height} x {width}, {channels} channel{'s' * (channels != 1)}"]
    names = [printable(name) for name in part.class_names]
    width_of_names = max(map(len, names), default=0)
    lines += [f"  {c:<{width_of_names}}  {n:>9,}" for c, n in zip(names, part.counts, strict=True)]
    lines += [f"  {line}" for line in _pairs("images equal an earlier one, pixel for pixel", part.pairs)]
    if part.imbalance > 1.5:
        lines.append(f"  {part.imbalance:.1f} images of the commonest class for each one of the rarest")
    return lines + [f"  damaged: {printable(sentence)}" for sentence in _few(part.damaged)]
