"""`nasx data cache`: list the cached features of pretrained backbones, and remove them."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich import box
from rich.table import Table
from rich.text import Text

from nasx.cli.options import Format
from nasx.errors import ResourceError, SettingError, did_you_mean
from nasx.escaping import printable, to_json
from nasx.terminal import Console, answers

if TYPE_CHECKING:
    from nasx.backbones.store_folder import StoredFeatures

DAY = 86_400  # seconds
PICTURES = ("images-*.npy", "huggingface-*.npy")  # names of the files of resized pictures


def cache(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME", help="Only these: ids, or names of a backbone or a dataset."),
    ] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Remove them, except those that a process uses.")] = False,
    older_than: Annotated[
        float | None, typer.Option(metavar="DAYS", min=0, help="Only those that were not used for this number of days.")
    ] = None,
    directory: Annotated[
        Path | None, typer.Option("--cache", help="Directory, as in dataset.cache; by default the user's cache.")
    ] = None,
    output: Annotated[Format, typer.Option("--format", help="A table for people, json for programs.")] = Format.TABLE,
) -> None:
    """List the cached features of pretrained backbones, or remove them with --clear.

    A command that needs features that were removed computes them again.
    """
    from nasx.backbones.store_folder import feature_folder, list_stores  # numpy takes time to load

    folder = feature_folder(directory)
    stores = _chosen(list_stores(folder), names or (), older_than)
    if clear:
        _clear(folder, stores, output)
    elif output is Format.JSON:
        print(to_json(_as_record(folder, stores)))
    else:
        _list(folder, stores)


def _chosen(
    stores: Sequence[StoredFeatures], names: Sequence[str], older_than: float | None
) -> Sequence[StoredFeatures]:
    """Return the stores that have one of the names, if there are any, and are old enough."""
    for name in names:
        if not any(_is_named(store, name) for store in stores):
            known = {word for store in stores for word in _names(store)}
            raise SettingError("NAME", f"must be in the list of `nasx data cache`, got {name!r}. {_hint(name, known)}")
    last = math.inf if older_than is None else time.time() - DAY * older_than
    found = [store for store in stores if not names or any(_is_named(store, name) for name in names)]
    return [store for store in found if store.used <= last]


def _names(store: StoredFeatures) -> tuple[str, ...]:
    return (store.directory.name, store.about.backbone, *store.about.datasets)


def _is_named(store: StoredFeatures, name: str) -> bool:
    return name in _names(store) or (len(name) >= 4 and store.directory.name.startswith(name))


def _hint(name: str, known: set[str]) -> str:
    return did_you_mean(name, known) or "The list is empty."


def _clear(folder: Path, stores: Sequence[StoredFeatures], output: Format) -> None:
    """Remove stores, and print what was freed.

    Raises ResourceError naming those that could not be removed.
    """
    from nasx.backbones.store_folder import gigabytes, remove_store, total_bytes

    problems = {store.directory.name: remove_store(store.directory) for store in stores}
    removed = [store for store in stores if problems[store.directory.name] is None]
    kept = {name: problem for name, problem in problems.items() if problem is not None}
    if output is Format.JSON:
        record = {"removed": [store.directory.name for store in removed], "freed_bytes": total_bytes(removed)}
        print(to_json({**record, "kept": kept}))
    elif removed or not kept:
        print(printable(f"removed {_count(len(removed))} in {folder}: {gigabytes(total_bytes(removed))} freed"))
    if kept:
        reasons = ", ".join(f"{name} {problem}" for name, problem in kept.items())
        raise ResourceError(f"{_count(len(kept))} not removed: {reasons}. Try again when no search uses them.")


def _count(n: int) -> str:
    return f"{n} set{'s' * (n != 1)} of features"


def _list(folder: Path, stores: Sequence[StoredFeatures]) -> None:
    from nasx.backbones.store_folder import LIMIT, gigabytes, total_bytes

    if stores:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for header in ("id", "backbone", "images", "datasets", "maps", "size", "last used"):
            table.add_column(header, justify="right" if header == "size" else "left", overflow="fold")
        for store in stores:
            table.add_row(*(Text(printable(word)) for word in _row(store)))
        answers().print(table)
    else:
        answers().say(f"no cached features in {folder}")
    log = Console(stderr=True)
    log.say(f"{folder}: {gigabytes(total_bytes(stores))}, at most {gigabytes(LIMIT)}; the oldest are removed first.")
    n_files, n_bytes = _pictures(folder)
    if n_files:
        files = f"{n_files} file{'s' * (n_files != 1)} of resized pictures"
        log.say(f"{folder.parent}: {files}, {gigabytes(n_bytes)}; --clear keeps them.")


def _row(store: StoredFeatures) -> tuple[str, ...]:
    from nasx.backbones.store_folder import gigabytes

    return (
        store.directory.name,
        store.about.backbone,
        " x ".join(map(str, store.about.shape)),
        ", ".join(store.about.datasets),
        ", ".join(f"{cut} {n:,}" for cut, n in store.maps.items()),
        gigabytes(store.n_bytes),
        f"{datetime.fromtimestamp(store.used).astimezone():%Y-%m-%d %H:%M}",
    )


def _as_record(folder: Path, stores: Sequence[StoredFeatures]) -> Mapping[str, Any]:
    from nasx.backbones.store_folder import LIMIT, total_bytes

    n_files, n_bytes = _pictures(folder)
    return {
        "directory": str(folder),
        "total_bytes": total_bytes(stores),
        "limit_bytes": LIMIT,
        "stores": [
            {
                "id": store.directory.name,
                "backbone": store.about.backbone,
                "image_shape": store.about.shape,
                "datasets": store.about.datasets,
                "maps": store.maps,
                "bytes": store.n_bytes,
                "last_used": datetime.fromtimestamp(store.used).astimezone().isoformat(timespec="seconds"),
            }
            for store in stores
        ],
        "resized_pictures": {"files": n_files, "bytes": n_bytes},
    }


def _pictures(folder: Path) -> tuple[int, int]:
    """Return the number of files with resized pictures next to the features, and their bytes."""
    sizes = []
    for file in (file for pattern in PICTURES for file in folder.parent.glob(pattern)):
        with suppress(OSError):  # removed meanwhile, or a link to nothing
            sizes.append(file.stat().st_size)
    return len(sizes), sum(sizes)
