"""Photos on a laptop: heads on a pretrained backbone against their baselines, on CIFAR-10 pictures as a folder.

    python -m scripts.photos --data DIR --out DIR [--steps search linear scratch final labels] [--quick]

The folder has 10,000 training and 10,000 test pictures; a search trains on 2,000 and validates on 1,000.

- `search`: `nasx search --config photos`, 64 trainings, at 128 and at 224 pixels, with an empty cache of features;
- `linear`: logistic regression on the same features, averaged over the positions of each map;
- `scratch`: `nasx search --config folder` from scratch, for the same time as the search at 128 pixels;
- `final`: `nasx train` of the network with the lowest validation error, on the 10,000 pictures, with and without
  unfreezing; test error; export, and predictions of the file against the whole network on 500 test pictures;
- `labels`: 10 % of the 2,000 labels are changed; share of them among the first n suspects, n the number changed, by
  nasx and by cleanlab with logistic regression on the same features, 3 seeds.

Each step adds its figures to OUT/photos.json; a step that is there is not measured again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table

import nasx
from nasx.data.cifar import CIFAR10
from nasx.data.dataset import LabeledImages, SearchData
from nasx.data.features import Features
from nasx.diagnostics.confident_learning import relative_confidence
from nasx.diagnostics.cross_validation import cross_validate, predict
from nasx.diagnostics.label_errors import corrupt_labels
from nasx.experiment import Experiment
from nasx.files import write_atomically
from nasx.training.fit import fit
from nasx.trial import Trial, derive_seed

SIZES: Final = (128, 224)  # pixels per side
TRAIN, VALIDATION, FINAL_TRAIN, TEST = 2_000, 1_000, 10_000, 10_000  # pictures
EVALUATIONS: Final = 64
PREDICTED: Final = 500  # pictures with which an exported file is compared
PLANTED: Final = 0.1  # share of the labels that are changed
SEEDS: Final = (0, 1, 2)
COSTS: Final = (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1)  # inverse strengths of the logistic regression's regularization

Record = dict[str, Any]


@dataclass(frozen=True)
class Setup:
    """Sizes and places of the measurement."""

    out: Path
    sizes: Sequence[int]
    n_train: int
    n_validation: int
    n_final: int
    n_test: int
    evaluations: int
    seeds: Sequence[int]

    @property
    def folder(self) -> Path:
        return self.out / "cifar10"

    def run_dir(self, size: int) -> Path:
        return self.out / f"search-{size}"

    def settings(self, size: int) -> list[str]:
        """Return the overrides of a search."""
        return [
            f"dataset.root={self.folder}",
            f"dataset.image_size={size}",
            "dataset.grayscale=false",
            f"split.train_images={self.n_train}",
            f"split.validation_images={self.n_validation}",
        ]


def write_folder(setup: Setup, data: Path) -> None:
    """Write CIFAR-10's pictures as PNG files in train/CLASS/ and test/CLASS/."""
    if setup.folder.exists():
        return
    reader = CIFAR10(root=str(data))
    for part, images, n in (("train", reader.train(), setup.n_final), ("test", reader.test(), setup.n_test)):
        chosen = np.random.default_rng(0).permutation(len(images))[:n]
        for i in chosen.tolist():
            place = setup.folder / part / images.class_names[images.labels[i]]
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(images.images[i].transpose(1, 2, 0)).save(place / f"{i:05d}.png")


def command(setup: Setup, *words: str, cache: str = "cache") -> float:
    """Run a command of nasx, and return its seconds."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(setup.out / cache), "PYTHONPATH": os.pathsep.join(sys.path)}
    started = time.perf_counter()
    with (setup.out / "commands.log").open("a") as log:
        print("$ nasx", *words, file=log, flush=True)
        subprocess.run([sys.executable, "-m", "nasx", *words], env=environment, check=True, stdout=log, stderr=log)
    return time.perf_counter() - started


# --- steps


def search(setup: Setup, size: int) -> Record:
    """Search with an empty cache."""
    cache = f"cache-{size}"
    prepare = [*setup.settings(size), f"algorithm.evaluations={setup.evaluations}", "search.max_hours=null"]
    seconds = command(
        setup, "search", "--config", "photos", *prepare, "search.replicates=0", "algorithm.population_size=16",
        "--run-dir", str(setup.run_dir(size)), cache=cache,
    )  # fmt: skip
    return {"seconds": seconds, **front_figures(setup.run_dir(size))}


def front_figures(run_dir: Path) -> Record:
    """Return the size of a front and the lowest validation error, estimated and measured."""
    run = nasx.load_run(run_dir)
    complete = [trial for trial in run.records if trial.is_complete]
    return {
        "front": len(run.front()),
        "trainings": len(run.records),
        "best_estimate": min(network.metrics["error"] for network in run.front()),
        "best_measured": min(trial.metrics["error"] for trial in complete),
    }


def linear(setup: Setup, size: int) -> Record:
    """Return the validation errors of logistic regression at each cut."""
    data = experiment_of(setup, size).data
    found: Record = {}
    for cut in experiment_of(setup, size).space.cuts:  # type: ignore[attr-defined]
        train, validation = (pooled(data, part, cut) for part in (data.train, data.validation))
        by_cost = {c: error_of(fit_linear(train, data.train.labels, c), validation, data.validation) for c in COSTS}
        chosen = choose_cost(train, data.train.labels)
        found[cut] = {"cross_validated": by_cost[chosen], "best": min(by_cost.values()), "cost": chosen}
    return found


def pooled(data: SearchData, images: LabeledImages, cut: str) -> NDArray[np.float32]:
    """Return the features of images, averaged over the positions of the maps, (n, channels)."""
    assert data.features is not None
    found: Features = data.features.at(cut, images)
    return np.stack([found.images[row].astype(np.float32).mean(axis=(1, 2)) for row in found.rows[0]])


def fit_linear(features: NDArray[np.float32], labels: NDArray[np.int64], cost: float) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(C=cost, max_iter=1000)).fit(features, labels)


def choose_cost(features: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Return the strength with the highest accuracy in five folds of the training images."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def accuracy(cost: float) -> float:
        model = make_pipeline(StandardScaler(), LogisticRegression(C=cost, max_iter=1000))
        return float(cross_val_score(model, features, labels, cv=5).mean())

    return max(COSTS, key=accuracy)


def error_of(model: Any, features: NDArray[np.float32], images: LabeledImages) -> float:
    return float(1 - model.score(features, images.labels))


def scratch(setup: Setup, seconds: float) -> Record:
    """Search from scratch for the same time, on the pictures in the size that suits it."""
    own = [word for word in setup.settings(0) if not word.startswith("dataset.image_size")]
    took = command(
        setup, "search", "--config", "folder", *own, f"search.max_hours={seconds / 3600:.4f}",
        "--run-dir", str(setup.out / "scratch"),
    )  # fmt: skip
    return {"seconds": took, **front_figures(setup.out / "scratch")}


def final(setup: Setup, size: int, unfreeze: int) -> Record:
    """Train the best network on all pictures, and test it."""
    run_dir, network = setup.run_dir(size), best(setup, size)
    out = setup.out / f"final-{size}-unfreeze-{unfreeze}"
    words = ["--run-dir", str(run_dir), "--arch-id", network.arch_id, "--out", str(out), "--format", "json"]
    seconds = command(
        setup,
        "train",
        *words,
        "training=backbone",
        "training.epochs=10",
        f"training.unfreeze={unfreeze}",
        cache=f"cache-{size}",
    )
    record = json.loads((out / "final.json").read_text())
    test = record["trainings"][0]["test"]
    return {"network": network.architecture, "seconds": seconds, "test_error": test["error"]}


def best(setup: Setup, size: int) -> Trial:
    """Return the training of the network on the front with the lowest error."""
    return min(nasx.load_run(setup.run_dir(size)).front(), key=lambda network: network.metrics["error"]).trial


def exported(setup: Setup, size: int) -> Record:
    """Compare the predictions of an exported file with those of the whole network."""
    run_dir, trial = setup.run_dir(size), best(setup, size)
    out = setup.out / f"exported-{size}"
    words = ["--run-dir", str(run_dir), "--arch-id", trial.arch_id, "--format", "onnx", "--out", str(out)]
    seconds = command(setup, "export", *words, cache=f"cache-{size}")
    files = sorted((setup.folder / "test").rglob("*.png"))
    chosen = [str(files[i]) for i in np.random.default_rng(0).permutation(len(files))[:PREDICTED]]
    found = nasx.load_model(out).predict(chosen).probabilities
    expected = nasx.load_run(run_dir)[trial.arch_id].predict(chosen).probabilities
    return {"seconds": seconds, "pictures": len(chosen), "gap": float(np.abs(found - expected).max())}


def labels(setup: Setup, size: int, seed: int) -> Record:
    """Return the share of the changed labels among the first n suspects, by several rankings."""
    from cleanlab.rank import get_label_quality_scores
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    experiment, trial = experiment_of(setup, size), best(setup, size)
    clean = experiment.data
    given, is_wrong = corrupt_labels(clean.train.labels, clean.n_classes, share=PLANTED, seed=seed)
    data = replace(clean, train=replace(clean.train, labels=given))
    how = {"augmentation": experiment.dataset.augmentation, "device": torch.device("cpu")}

    def build(seed: int) -> torch.nn.Sequential:
        return experiment.untrained(trial.genotype, seed)

    network = build(derive_seed(seed, "labels"))
    fit(network, data, experiment.recipe, seed=seed, **how)  # type: ignore[arg-type]
    own = predict(network, data.train, data)
    folds = cross_validate(build, data, experiment.recipe, folds=4, seed=seed, **how)  # type: ignore[arg-type]
    cut = network[0].cut
    assert isinstance(cut, str)
    features = pooled(data, data.train, cut)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=choose_cost(features, given), max_iter=1000))
    by_linear = cross_val_predict(model, features, given, cv=5, method="predict_proba")
    suspicion = {
        "nasx": -relative_confidence(given, own),
        "nasx, 4 folds": -relative_confidence(given, folds),
        "cleanlab": -get_label_quality_scores(given, by_linear),
        "cleanlab, normalized margin": -get_label_quality_scores(given, by_linear, method="normalized_margin"),
        "cleanlab, probabilities of the folds": -get_label_quality_scores(given, folds),
    }
    n = int(is_wrong.sum())
    return {name: float(is_wrong[np.argsort(-found, kind="stable")[:n]].mean()) for name, found in suspicion.items()}


def experiment_of(setup: Setup, size: int) -> Experiment:
    """Return the experiment of a search, with its cache."""
    os.environ["XDG_CACHE_HOME"] = str(setup.out / f"cache-{size}")
    return Experiment.of_run(setup.run_dir(size))


# --- program


def jobs(setup: Setup, steps: Sequence[str]) -> dict[str, Callable[[Mapping[str, Record]], Record]]:
    """Return the measurements of some steps, by name; each receives the figures so far."""
    first = setup.sizes[0]
    found: dict[str, Callable[[Mapping[str, Record]], Record]] = {}
    for size in setup.sizes:
        found[f"search {size}"] = lambda _, size=size: search(setup, size)
        found[f"linear {size}"] = lambda _, size=size: linear(setup, size)
    found["scratch"] = lambda known: scratch(setup, known[f"search {first}"]["seconds"])
    for unfreeze in (0, 1):
        found[f"final unfreeze={unfreeze}"] = lambda _, unfreeze=unfreeze: final(setup, first, unfreeze)
    found["final export"] = lambda _: exported(setup, first)
    for seed in setup.seeds:
        found[f"labels seed={seed}"] = lambda _, seed=seed: labels(setup, first, seed)
    return {name: job for name, job in found.items() if name.split()[0] in steps}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m scripts.photos", description=__doc__.split("\n")[0])  # type: ignore[union-attr]
    parser.add_argument("--data", type=Path, required=True, help="directory with CIFAR-10, as NASX_DATA")
    parser.add_argument("--out", type=Path, required=True, help="directory that keeps everything")
    names = ["search", "linear", "scratch", "final", "labels"]
    parser.add_argument("--steps", nargs="+", choices=names, default=names)
    parser.add_argument("--quick", action="store_true", help="few pictures and trainings: does it work?")
    options = parser.parse_args()
    out = options.out.resolve()
    setup = Setup(out, SIZES, TRAIN, VALIDATION, FINAL_TRAIN, TEST, EVALUATIONS, SEEDS)
    if options.quick:
        setup = Setup(out, (64,), 300, 150, 600, 200, 8, (0,))
    out.mkdir(parents=True, exist_ok=True)
    write_folder(setup, options.data)
    file = out / "photos.json"
    known: dict[str, Record] = json.loads(file.read_text()) if file.is_file() else {}
    for name, job in jobs(setup, options.steps).items():
        if name not in known:
            known[name] = job(known)
            write_atomically(file, json.dumps(known, indent=1).encode())
    table = Table("measurement", "figures", show_edge=False, pad_edge=False)
    for name, record in known.items():
        table.add_row(name, json.dumps(record))
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
