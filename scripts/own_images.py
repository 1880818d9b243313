"""From a folder of images to a better model: every step by the command that a user types.

    python -m scripts.own_images [--data DIR] [--out DIR] [--images 1000] [--hours 0.05] [--quick]

Makes folders as users have them (`scripts.own_image_folders`) from published pictures in DIR: CIFAR-10 as photos,
Fashion-MNIST as 12-bit scans; from synthetic lines without --data. Then walks check, plan, search, pareto, explain,
debug, review, search with corrections, train, export, the model card's code, and predict, and checks what each step
promises. Prints seconds and findings of each step. The exit status is 1 if a step fails.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from scripts.own_image_folders import BITS, Folder, corrections, photos, scans
from scripts.own_image_folders import pictures as published

SUSPECTS_SHARE = 0.15  # of the images: how many suspects the reviewer looks at
TOLERANCE = 1e-4  # largest difference of probabilities between the card's code and `nasx predict`
FACTOR = 1.5  # largest ratio of the real and the estimated time of a search
QUICK = (  # a search of seconds that learns something
    "dataset.image_size=16",
    "training.epochs=10",
    "training.batch_size=8",
    "algorithm.evaluations=5",
    "algorithm.population_size=4",
    "space.channels=8",
    "space.cells=1",
)
QUICK_IMAGES = 160
QUICK_HEADS = (  # the same on a pretrained backbone
    "dataset.image_size=64",
    "training.views=2",
    "training.epochs=4",
    "training.batch_size=16",
    "algorithm.evaluations=5",
    "algorithm.population_size=4",
    "search.replicates=0",
    "space.max_cells=1",
)
LARGE = (100, 300)  # pixels of the short sides of larger photos


class StepError(Exception):
    """A step did not keep a promise."""


@dataclass
class Step:
    """A step of the walk."""

    name: str
    seconds: float = 0.0
    finding: str = ""
    failed: bool = False


@dataclass
class Walk:
    """The walk over one folder, and what it has found so far."""

    folder: Folder
    work: Path  # everything is written below this directory
    settings: tuple[str, ...]  # overrides of every search of the folder
    config: str = "folder"  # of every search
    steps: list[Step] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    run: Path = Path()  # directory of the first run
    network: str = ""  # id of the network that is debugged, trained and exported

    def nasx(self, *words: str, status: int = 0) -> subprocess.CompletedProcess[str]:
        """Run a command of nasx in the working directory. Raises StepError if it ends with another status."""
        command = [sys.executable, "-m", "nasx", *words]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **self.environment}
        done = subprocess.run(command, cwd=self.work, env=environment, capture_output=True, text=True)
        if done.returncode != status:
            raise StepError(f"`nasx {' '.join(words)}` ended with {done.returncode}: {_last(done.stderr)}")
        return done

    @contextmanager
    def step(self, name: str) -> Iterator[Step]:
        """Time a step; record a broken promise and go on."""
        step = Step(name)
        self.steps.append(step)
        started = time.perf_counter()
        try:
            yield step
        except (StepError, AssertionError, LookupError, ValueError, OSError) as error:
            step.failed = True
            step.finding = f"{type(error).__name__}: {error}"
        step.seconds = time.perf_counter() - started


def _last(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else ""


def promise(kept: object, text: str) -> None:
    """Raise StepError unless a promise is kept."""
    if not kept:
        raise StepError(text)


# --- steps


def check(walk: Walk) -> None:
    with walk.step("data check") as step:
        words = [word for word in walk.settings if word.startswith("dataset.") and "skip_damaged" not in word]
        status = 2 if walk.folder.damaged else 0
        done = walk.nasx("data", "check", "folder", *words, "--format", "json", status=status)
        found = json.loads(done.stdout)
        text = json.dumps(found)
        for file in walk.folder.damaged:
            promise(Path(file).name in text, f"the damaged file {file} is not named")
        promise(not walk.folder.damaged or not found["sound"], "damaged files, but the data are sound")
        step.finding = "sound" if found["sound"] else f"not sound: {found['problems'][0]}"


def plan(walk: Walk) -> None:
    with walk.step("search --dry-run") as step:
        done = walk.nasx("search", "--config", walk.config, *walk.settings, "--dry-run")
        step.finding = f"estimate: {_minutes(done.stdout + done.stderr):.1f} min"


def _minutes(text: str) -> float:
    """Return the estimated minutes of a search, as printed."""
    found = re.search(r"about (?:(\d+) h )?(?:([\d.]+) min(?:utes?)?)? ?(?:([\d.]+) s)?", text)
    promise(found and any(found.groups()), "no estimate of time is printed")
    assert found
    hours, minutes, seconds = (float(group or 0) for group in found.groups())
    return 60 * hours + minutes + seconds / 60


def search(walk: Walk, is_timed: bool) -> None:
    with walk.step("search") as step:
        started = time.perf_counter()
        walk.run = walk.work / "first"
        done = walk.nasx("search", "--config", walk.config, *walk.settings, "--run-dir", str(walk.run))
        real = (time.perf_counter() - started) / 60
        estimate = _minutes(done.stderr + done.stdout)
        ratio = max(real / estimate, estimate / real)
        step.finding = f"{real:.1f} min; estimated {estimate:.1f} min, off by a factor of {ratio:.2f}"
        promise(not is_timed or ratio <= FACTOR, f"the estimate is off by more than {FACTOR}: {step.finding}")


def pareto(walk: Walk) -> None:
    with walk.step("pareto") as step:
        picture = walk.work / "front.png"
        done = walk.nasx("pareto", "--run-dir", str(walk.run), "--format", "json", "--plot", str(picture))
        networks = json.loads(done.stdout)["front"]
        promise(picture.stat().st_size > 10_000, "the picture of the front is empty")
        best = min(networks, key=lambda network: float(network["error"]))
        walk.network = best["arch_id"]
        step.finding = f"{len(networks)} networks on the front; best: {walk.network}"


def explain(walk: Walk) -> None:
    with walk.step("explain a network off the front") as step:
        off = _off_front(walk)
        walk.nasx("explain", "--arch-id", off, "--run-dir", str(walk.run), "--out", str(walk.work / "explained"))
        promise((walk.work / "explained/explanation.html").is_file(), "no page was written")
        step.finding = off


def _off_front(walk: Walk) -> str:
    """Return a trained network without kept weights; the best one if all have theirs."""
    kept = {file.parent.name for file in walk.run.glob("archs/*/*.safetensors")}
    import nasx

    trained = [trial.arch_id for trial in nasx.load_run(walk.run).records if trial.status == "complete"]
    return next((arch_id for arch_id in trained if arch_id not in kept), walk.network)


def review(walk: Walk) -> None:
    with walk.step("debug --review") as step:
        out = walk.work / "debugged"
        walk.nasx("debug", "--arch-id", walk.network, "--run-dir", str(walk.run), "--review", "--out", str(out))
        promise((out / "review.html").is_file(), "no page for the review was written")
        with (out / "suspects.csv").open(newline="") as file:
            suspects = [row["image"] for row in csv.DictReader(file)]
        n = round(SUSPECTS_SHARE * len(suspects))
        corrected = corrections(walk.folder, suspects[:n], walk.work / "corrections.csv")
        wrong = sum(image in walk.folder.wrong for image in suspects)
        promise(all((walk.folder.root / image).is_file() for image in suspects[:n]), "suspects are not files")
        step.finding = f"{corrected} of {wrong} wrong labels among the first {n} of {len(suspects)} suspects"


def search_again(walk: Walk) -> None:
    with walk.step("search with corrections, from the front") as step:
        words = [*walk.settings, f"dataset.corrections={walk.work / 'corrections.csv'}", "--warm-start", str(walk.run)]
        second = walk.work / "second"
        done = walk.nasx("search", "--config", walk.config, *words, "--run-dir", str(second))
        said = [line for line in done.stderr.splitlines() if "orrections" in line]
        promise(said, "the search does not report the corrections")
        walk.run = second
        step.finding = said[0].strip()


def train(walk: Walk) -> None:
    with walk.step("train") as step:
        words = ["--arch-id", walk.network, "--run-dir", str(walk.run), "--format", "json"]
        done = walk.nasx("train", *words)
        record = json.loads(done.stdout)
        record = record[0] if isinstance(record, list) else record
        step.finding = f"keys: {', '.join(list(record)[:8])}"


def export(walk: Walk, formats: Sequence[str]) -> None:
    for name in formats:
        with walk.step(f"export as {name}, card's code against predict") as step:
            out = walk.work / f"exported-{name}"
            words = ["--arch-id", walk.network, "--run-dir", str(walk.run), "--format", name, "--out", str(out)]
            walk.nasx("export", *words)
            step.finding = _compare_card(walk, out)


CARD_IMAGES = 250
PICTURES = (".png", ".jpg", ".webp", ".bmp")


def _compare_card(walk: Walk, exported: Path) -> str:
    """Run the code of the model card on many images, and compare it with `nasx predict`."""
    damaged = {walk.folder.root / file for file in walk.folder.damaged}
    pictures = (path for path in walk.folder.root.rglob("*") if path.suffix.lower() in PICTURES)
    files = sorted(path for path in pictures if path not in damaged and "__MACOSX" not in path.parts)
    chosen = np.random.default_rng(0).permutation(len(files))[:CARD_IMAGES]
    place = walk.work / f"{exported.name}-pictures"
    place.mkdir()
    names = []
    for number in chosen:
        target = place / f"{number:05d}{files[number].suffix}"
        shutil.copy(files[number], target)
        names.append(target.name)
    done = walk.nasx("predict", str(exported), str(place), "--format", "json")
    predicted = {Path(row["file"]).name: row for row in json.loads(done.stdout)}
    code = next(iter(re.findall(r"```python\n(.*?)```", (exported / "README.md").read_text(), flags=re.DOTALL)))
    worst = 0.0
    lines = _run_card(code, exported, [place / name for name in names])
    for name, (label, probability) in zip(names, lines, strict=True):
        promise(label == predicted[name]["class"], f"{name}: the card says {label}, predict {predicted[name]['class']}")
        worst = max(worst, abs(probability - predicted[name]["probability"]))
    (exported / "classify.py").unlink()
    promise(worst <= TOLERANCE, f"probabilities differ by {worst:.1e}")
    return f"{len(names)} pictures: equal classes, probabilities differ by at most {worst:.0e}"


def _run_card(code: str, exported: Path, images: Sequence[Path]) -> list[tuple[str, float]]:
    """Return class and probability that the card's code prints for each image."""
    (exported / "classify.py").write_text(code)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "classify.py", *map(str, images)]
    done = subprocess.run(command, cwd=exported, env=environment, capture_output=True, text=True)
    promise(done.returncode == 0, f"the card's code fails: {_last(done.stderr)}")
    rows = [line.split("\t") for line in done.stdout.strip().splitlines()]
    return [(label, float(probability)) for _, label, probability, _ in rows]


def predict(walk: Walk, format_name: str) -> None:
    with walk.step("predict the folder") as step:
        words = [str(walk.work / f"exported-{format_name}"), str(walk.folder.root)]
        done = walk.nasx("predict", *words, status=2 if walk.folder.damaged else 0)  # 2: some cannot be read
        said = done.stderr.splitlines()
        promise("recall" in done.stderr.lower(), "no recall per class is printed")
        step.finding = next((line.strip() for line in said if "images classified" in line), _last(done.stderr))


# --- walks


def walk_photos(work: Path, data: Path | None, n: int, settings: Sequence[str]) -> Walk:
    folder = photos(work / "my photos", published(data, "cifar10", n))
    return Walk(folder, work, (f"dataset.root={folder.root}", "dataset.skip_damaged=true", *settings))


def walk_scans(work: Path, data: Path | None, n: int, settings: Sequence[str]) -> Walk:
    folder = scans(work / "scans", published(data, "fashion_mnist", n))
    value_range = f"dataset.value_range=[0,{2**BITS - 1}]"
    return Walk(folder, work, (f"dataset.root={folder.root}", value_range, *settings))


def walk_large_photos(work: Path, data: Path | None, n: int, settings: Sequence[str]) -> Walk:
    folder = photos(work / "large photos", published(data, "cifar10", n), sides=LARGE)
    own = (f"dataset.root={folder.root}", "dataset.skip_damaged=true")
    return Walk(folder, work, (*own, *settings), config="photos", environment={"XDG_CACHE_HOME": str(work / "cache")})


WALKS: dict[str, Callable[[Path, Path | None, int, Sequence[str]], Walk]] = {
    "photos": walk_photos,
    "scans": walk_scans,
    "large photos": walk_large_photos,
}


def take(walk: Walk, formats: Sequence[str], is_timed: bool, is_short: bool = False) -> list[Step]:
    """Take the steps of a walk; later ones are left out if there is no front.

    Args:
        walk: over one folder.
        formats: of the exports.
        is_timed: whether a wrong estimate of the time is an error.
        is_short: only check, search, and export.
    """
    check(walk)
    if not is_short:
        plan(walk)
    search(walk, is_timed)
    if walk.steps[-1].failed and not (walk.run / "run.db").is_file():
        return walk.steps
    pareto(walk)
    if walk.steps[-1].failed:
        return walk.steps
    if is_short:
        export(walk, formats[-1:])
        return walk.steps
    explain(walk)
    if walk.folder.wrong:
        review(walk)
        search_again(walk)
    pareto(walk)
    train(walk)
    export(walk, formats)
    predict(walk, formats[0])
    return walk.steps


def show(steps: dict[str, list[Step]], console: Console) -> None:
    """Print a table of all steps."""
    table = Table(show_edge=False, pad_edge=False)
    for column in ("folder", "step", "s", "finding"):
        table.add_column(column, overflow="fold", justify="right" if column == "s" else "left")
    for kind, taken in steps.items():
        for step in taken:
            style = "bold red" if step.failed else ""
            table.add_row(kind, step.name, f"{step.seconds:.1f}", step.finding, style=style)
    console.print(table)


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.own_images", description=__doc__.split("\n")[0])  # type: ignore[union-attr]
    parser.add_argument("--data", type=Path, help="directory with the published files, as NASX_DATA")
    parser.add_argument("--out", type=Path, help="directory to keep everything in; by default a temporary one")
    parser.add_argument("--kinds", nargs="+", choices=list(WALKS), default=list(WALKS))
    parser.add_argument("--images", type=int, default=1000, help="of each folder (default: 1000)")
    parser.add_argument("--hours", type=float, default=0.05, help="budget of each search (default: 0.05)")
    parser.add_argument("--formats", nargs="+", default=["onnx", "safetensors"])
    parser.add_argument("--quick", action="store_true", help="few images, tiny searches, no check of the estimate")
    chosen = parser.parse_args(words)
    hours = (f"search.max_hours={chosen.hours}",)
    n = min(chosen.images, QUICK_IMAGES) if chosen.quick else chosen.images
    taken: dict[str, list[Step]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        for kind in chosen.kinds:
            work = (chosen.out or Path(temporary)).resolve() / kind
            work.mkdir(parents=True)
            heads = WALKS[kind] is walk_large_photos
            settings = (QUICK_HEADS if heads else QUICK) if chosen.quick else hours
            walk = WALKS[kind](work, chosen.data, n, settings)
            is_short = heads and chosen.quick
            taken[kind] = take(walk, chosen.formats, is_timed=not chosen.quick, is_short=is_short)
    show(taken, Console(width=180))
    return 1 if any(step.failed for steps in taken.values() for step in steps) else 0


if __name__ == "__main__":
    sys.exit(main())
