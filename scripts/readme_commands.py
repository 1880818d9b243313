"""Run every command of the README in the environment that scripts/quickstart makes, without further packages.

    python -m scripts.readme_commands [--venv DIR] [--out DIR] [--list]

Copies this checkout, runs scripts/quickstart there (NASX_VENV: DIR, made if it does not exist), then every line of the
README's bash blocks, from top to bottom, in the copy. Placeholders such as ID and RUN are replaced, and searches and
trainings are cut short. A line that is not run is listed with its reason. The exit status is 1 if a command fails.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from scripts.own_image_folders import photos, pictures

ROOT = Path(__file__).parents[1]
SHORT = ("algorithm.evaluations=4", "training.epochs=4")  # for every search
SHORT_FOLDER = ("algorithm.evaluations=4", "training.epochs=10", "training.batch_size=8", "dataset.image_size=16")
N_PICTURES = 160  # of the folder that takes the place of the user's
SECONDS = 400  # limit of one command
DATA = os.environ.get("NASX_DATA", "")  # directory with the published images
FEW = ("split.train_images=2000", "split.validation_images=300")  # of published images

# A line that matches is not run, for this reason
NOT_RUN = {
    r"^scripts/test": "CI runs it itself",
    r"^scripts/quickstart": "has been run first",
    r"^source ": "the environment is on the PATH",
    **({} if DATA else {r"cifar10|fashion_mnist": "needs published images, NASX_DATA"}),
    r"evaluation\.table=": "needs a table of published results",
    r"logger=": "needs a tracker, an extra",
    r"--config photos|training\.unfreeze=": "needs the extra backbone; scripts.own_images runs it",
    r"--serve": "does not end",
    r"^nasx train --arch-id .*epochs=15": "trains for long on published images",
    r"pip install|apt-get": "installs packages",
    r"^python -m scripts": "a benchmark",
}


@dataclass(frozen=True)
class Line:
    """A line of a bash block."""

    text: str
    reason: str = ""  # why it is not run; "": it is run


def lines(readme: str) -> Iterator[Line]:
    """Yield the commands of all bash blocks, without comments. `&&` separates commands."""
    for block in re.findall(r"```bash\n(.*?)```", readme, flags=re.DOTALL):
        for written in block.replace("\\\n", " ").splitlines():
            for text in re.sub(r"\s+#.*$", "", written).split("&&"):
                if text.strip():
                    found = (reason for pattern, reason in NOT_RUN.items() if re.search(pattern, text.strip()))
                    yield Line(text.strip(), next(found, ""))


def files(readme: str) -> dict[str, str]:
    """Return the files that the README asks for: blocks whose first line is a comment with the path of a new file."""
    blocks = re.findall(r"```(?:python|yaml)\n(# (\S+\.(?:py|yaml))\n.*?)```", readme, flags=re.DOTALL)
    return {file: content for content, file in blocks if not (ROOT / file).exists()}


def filled(text: str, values: Mapping[str, str]) -> str:
    """Return a command with its placeholders replaced, and a search cut short.

    Args:
        text: as written in the README.
        values: regular expression of a placeholder -> its value, in order.
    """
    for placeholder, value in values.items():
        text = re.sub(placeholder, value, text)
    if re.match(r"nasx search .*--config", text):
        short = (*SHORT, *(FEW if DATA and DATA in text else ()))
        short = SHORT_FOLDER if "--config folder" in text else short
        text = " ".join([text, *(word for word in short if word.partition("=")[0] not in text)])
    return text


@dataclass
class Clone:
    """A copy of the repository with the environment of the quickstart."""

    directory: Path
    venv: Path

    def run(self, text: str) -> tuple[float, str]:
        """Run a command line; return seconds and, if it fails, its last line."""
        environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
        environment |= {"PATH": f"{self.venv / 'bin'}:{os.environ['PATH']}", "NASX_VENV": str(self.venv)}
        started = time.perf_counter()
        command = ["bash", "-c", text]
        try:
            done = subprocess.run(
                command, cwd=self.directory, env=environment, capture_output=True, text=True, timeout=SECONDS
            )
        except subprocess.TimeoutExpired:
            return SECONDS, f"not finished after {SECONDS} s"
        output = (done.stderr.strip() or done.stdout.strip()).splitlines()
        failure = f"status {done.returncode}: {output[-1] if output else ''}" if done.returncode else ""
        return time.perf_counter() - started, failure

    def network(self) -> str:
        """Return the id of the first network of the newest front."""
        command = [str(self.venv / "bin/nasx"), "pareto", "--format", "json"]
        done = subprocess.run(command, cwd=self.directory, capture_output=True, text=True, check=True)
        return str(json.loads(done.stdout)["front"][0]["arch_id"])


ARCH_ID = r"\bID\b|\b(?=[0-9a-f]*\d)[0-9a-f]{10}\b"  # ids of sample outputs are placeholders, too


def values_of(text: str, clone: Clone, folder: Path) -> dict[str, str]:
    """Return the value of each placeholder in a command."""
    journals = clone.directory.glob("runs/*/*/run.db")
    runs = [str(path.parent) for path in sorted(journals, key=lambda path: path.stat().st_mtime)]
    quoted = shlex.quote(str(folder))
    return {
        **({ARCH_ID: clone.network()} if re.search(ARCH_ID, text) else {}),
        r"\bRUN RUN\b[.]*": f"{runs[0]} {runs[-1]}",
        r"\bRUN\b": runs[-1],
        r"=DIR\b": f"={quoted}",
        r"(?<= )(DIR|photos/)(?= |$)": quoted,
        r"dataset\.root=NEW": "",
        r"dataset\.root=\S*data\b": f"dataset.root={DATA}",
    }


def _not_copied(directory: str, names: list[str]) -> list[str]:
    """Return what a fresh clone does not have, for `shutil.copytree`."""
    if Path(directory) != ROOT:
        return [name for name in names if name == "__pycache__"]
    return [name for name in names if name in (".git", "runs", "build") or name.startswith(".venv") or "cache" in name]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.readme_commands")
    parser.add_argument("--venv", type=Path, help="environment of the quickstart; by default a new, temporary one")
    parser.add_argument("--out", type=Path, help="directory of the copy; by default a temporary one")
    parser.add_argument("--list", action="store_true", help="list the commands, run none")
    chosen = parser.parse_args()
    found = list(lines((ROOT / "README.md").read_text()))
    if chosen.list:
        for line in found:
            print(f"{line.text}    # {line.reason}" if line.reason else line.text)
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        place = (chosen.out or Path(temporary)).resolve()
        clone = Clone(place / "nasx", (chosen.venv or place / "venv").resolve())
        shutil.copytree(ROOT, clone.directory, ignore=_not_copied)
        folder = photos(place / "my photos", pictures(None, "cifar10", N_PICTURES), wrong=0, damaged=0).root
        first = next(path for path in sorted(folder.rglob("IMG_*")) if path.suffix != ".heic").relative_to(folder)
        (clone.directory / "corrections.csv").write_text(f'image,action,label\n"{first.as_posix()}",keep,\n')
        return walk(clone, folder, found)


def walk(clone: Clone, folder: Path, found: list[Line]) -> int:
    """Run the quickstart, then all lines; print a table. Return the exit status."""
    table = Table(show_edge=False, pad_edge=False)
    for column in ("s", "command", "outcome"):
        table.add_column(column, overflow="fold")
    seconds, failure = clone.run("scripts/quickstart")
    table.add_row(f"{seconds:.0f}", "scripts/quickstart", failure or "ok")
    failed = bool(failure)
    for file, content in files((ROOT / "README.md").read_text()).items():
        (clone.directory / file).parent.mkdir(parents=True, exist_ok=True)
        (clone.directory / file).write_text(content)
    for line in found if not failed else ():
        if line.reason:
            table.add_row("", line.text, f"not run: {line.reason}")
            continue
        seconds, failure = clone.run(filled(line.text, values_of(line.text, clone, folder)))
        failed = failed or bool(failure)
        table.add_row(f"{seconds:.0f}", line.text, failure or "ok", style="bold red" if failure else "")
        print(f"{line.text}: {failure or 'ok'}", file=sys.stderr, flush=True)
    Console(width=180).print(table)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
