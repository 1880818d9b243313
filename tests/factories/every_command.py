"""Every command of nasx with arguments that make it do its work, and what its output must never contain.

Imports nothing of nasx but its entry point, like `tests.factories.black_box`.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from tests.factories.black_box import nasx

# words of a terminal, of rich, of spreadsheets, of HTML, and of a shell; no "/", so that it can be the name of a file
HOSTILE = "\x1b]0;owned\x07\x1b[2J\r\x9b31m\u202eevil\u2066\u200b[bold red][link=file:a]=cmd|' C'!A0<script>`x`\n$HOME"
LONG = "x" * 10_000

# command -> lines that call it. {run} and {other}: run directories, {id}: a network, {data}: a folder of images,
# {image}: a file, {model}: an exported model, {out}: a new directory, {config}: a config. A new command needs a line.
LINES: dict[str, tuple[str, ...]] = {
    "pareto": ("pareto --run-dir {run}", "pareto --run-dir {run} --format csv", "pareto --run-dir {run} --format json"),
    "runs": ("runs --runs-dir {runs}", "runs show {run} --details", "runs check {run}"),
    "compare": (
        "compare {run} {other}",
        "compare {run} {other} --format csv",
        "compare {run} {other} --format json --plot {out}/compared.svg",
    ),
    "config": ("config list", "config show {config}", "config show {config} --format json"),
    "report": ("report --run-dir {run} --out {out}/report.html",),
    "data": (
        "data cache --cache {data}",
        "data cache --clear --cache {data}",
        "data check folder dataset.root={data}",
        "data check folder dataset.root={data} --format json",
        "data similarity --dataset folder dataset.root={data} --source {similarity} --format csv",
        "data similarity --dataset folder dataset.root={data} --source {similarity}",
    ),
    "export": ("export --run-dir {run} --arch-id {id} --out {out}/exported --format safetensors",),
    "predict": (
        "predict {out}/exported {data}",
        "predict {out}/exported {data} --format csv",
        "predict {out}/exported {data} --format json",
    ),
    "explain": (
        "explain --run-dir {run} --arch-id {id} --samples 1 --out {out}/explained",
        "explain --run-dir {run} --arch-id {id} --sample {image} --out {out}/image",
    ),
    "debug": (
        "debug --no-train --run-dir {run} --arch-id {id} --folds 0 --review --review-images 9 --out {out}/debugged",
    ),
    "score": ("score hostile_model:model --data {data} dataset.image_size=12 dataset.grayscale=true --format json",),
    "train": ("train --run-dir {run} --arch-id {id} --out {out}/trained training.epochs=1 --calibration 0.3",),
    "search": (
        "search --config {config} --dry-run",
        "search --config {run}/config.yaml --dry-run --warm-start {run}",
        "search --resume --run-dir {run}",
    ),
}
QUICK = ("pareto", "runs", "compare", "report")  # commands that only read runs


def words_of(line: str, **values: object) -> list[str]:
    return [word.format(**values) for word in shlex.split(line)]


def run_line(line: str, **values: object) -> int:
    """Run a line of `LINES` in this process and return its exit status."""
    return nasx(*words_of(line, **{name: str(value) for name, value in values.items()}))


def uncontrolled(text: str, *, colors: bool = False) -> str:
    """Return the characters of an output that control a terminal or hide; "" if there are none.

    Args:
        text: an output.
        colors: whether sequences that only set colors are allowed.
    """
    if colors:
        text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    return "".join(sorted({c for c in text if not c.isprintable() and c not in "\n\t\u00a0\u202f"}))


def files_below(directory: Path, *suffixes: str) -> list[Path]:
    return sorted(path for path in directory.rglob("*") if path.suffix in suffixes and path.is_file())
