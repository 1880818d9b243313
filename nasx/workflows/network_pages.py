"""Pages about one network of a run: explain it, explain one image, debug it."""

from __future__ import annotations

import html
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from nasx.backbones.facts import backbone_facts
from nasx.config.settings import AtLeastOne, check_argument
from nasx.data.value_range import read_like
from nasx.diagnostics.debug import debug as debug_network
from nasx.diagnostics.debug import suspects_of
from nasx.diagnostics.explain import explain as explain_network
from nasx.diagnostics.explain_image import explain_image as explain_one_image
from nasx.diagnostics.label_errors import plant_label_errors
from nasx.diagnostics.repair import repair as repair_pair
from nasx.errors import SettingError, did_you_mean
from nasx.evaluation.train_and_score import resolve_device
from nasx.experiment import Experiment
from nasx.introspection.shap import ShapScorer
from nasx.places import check_output
from nasx.protocols import HasBackbone, HasCells, HasFiles
from nasx.reports.debugging_page import debugging_page, write_debugging
from nasx.reports.explanation_page import write_explanation
from nasx.reports.image_page import write_image
from nasx.reports.page import Page, as_terminal
from nasx.reports.summary import read_summary
from nasx.reports.text import network_facts
from nasx.runs.directory import Place, arch_dir, make_output
from nasx.runs.stored_run import DEFAULT, ReadOptions
from nasx.terminal import Console
from nasx.training.fit import resolve_precision
from nasx.trial import Trial
from nasx.workflows.suspect_review import check_folds, choose_folds, out_of_sample, write_review
from nasx.workflows.trained_network import TrainedNetwork, trained_network

WIDTH = 80  # characters per line of a page printed by `repr`
FRAME_HEIGHT = 640  # pixels of a page in a notebook


@dataclass(frozen=True, eq=False, repr=False)
class WrittenPage:
    """A page about a network, and the files in which it was written with its figures."""

    page: Page
    directory: Path
    files: tuple[Path, ...]

    def __repr__(self) -> str:
        text = io.StringIO()
        Console(file=text, width=WIDTH, color_system=None).print(as_terminal(self.page))
        return text.getvalue().rstrip()

    def _repr_html_(self) -> str:
        page = next(file for file in self.files if file.suffix == ".html").read_text("utf-8")
        return f'<iframe srcdoc="{html.escape(page)}" width="100%" height="{FRAME_HEIGHT}"></iframe>'


def explain(
    run_dir: Path,
    trial: Trial,
    *,
    samples: int = 2,
    out: Path | None = None,
    device: str = "auto",
    options: ReadOptions = DEFAULT,
    report: Callable[[str], None] | None = None,
) -> WrittenPage:
    """Explain a trained network on the validation images, and write the page.

    Args:
        run_dir: directory of the run.
        trial: training of the network; repeated if its weights are not kept.
        samples: images shown per class, at least 1.
        out: directory of the page; `explanation/` next to the weights if None.
        device: "auto", "cpu" or "cuda".
        options: how the run and its data are read.
        report: receives the progress in words.

    Raises:
        SettingError: an argument is out of range.
        RunError: there is no trained network.
    """
    check_argument("samples", samples, AtLeastOne)
    check_output(out or run_dir)
    at_start = Place.of(run_dir)
    experiment, trained = _rebuild(run_dir, trial, device, options)
    network = trained.network
    scorer = _shap_scorer(experiment)
    explanation = explain_network(
        network,
        experiment.data,
        scorer=scorer,
        score_seed=experiment.score_seed,
        recorded=None if experiment.data_difference else trial.evaluation.score(scorer.name),
        samples_per_class=samples,
        seed=trial.seed,
        report=report,
    )
    space = experiment.space
    edges = (space.edges(trial.genotype) if isinstance(space, HasCells) else None) or None  # a network without cells
    directory = out or arch_dir(run_dir, trial.arch_id, "explanation")
    known = _known(run_dir, trial, experiment, trained)
    at_start.check()
    make_output(directory)
    page, files = write_explanation(
        explanation,
        trial,
        directory,
        edges=edges,
        known=known,
        again=_computed_again(experiment),
        objectives=experiment.config.objectives,
    )
    return WrittenPage(page, directory, tuple(files))


def explain_image(
    run_dir: Path,
    trial: Trial,
    sample: str,
    *,
    out: Path | None = None,
    device: str = "auto",
    options: ReadOptions = DEFAULT,
) -> WrittenPage:
    """Explain the prediction of one image, and write the page.

    Args:
        run_dir: directory of the run.
        trial: training of the network; repeated if its weights are not kept.
        sample: an image file, or the index of a validation image.
        out: directory of the page; `explanation/image_<sample>/` next to the weights if None.
        device: "auto", "cpu" or "cuda".
        options: how the run and its data are read.

    Raises:
        SettingError: there is no such file or index.
        RunError: there is no trained network.
    """
    check_output(out or run_dir)
    at_start = Place.of(run_dir)
    experiment, trained = _rebuild(run_dir, trial, device, options)
    network = trained.network
    data = experiment.data
    if sample.isdecimal():
        index, n = int(sample), len(data.validation)
        if index >= n:
            raise SettingError("--sample", f"must be less than {n}, the number of validation images, got {index}.")
        image, label = data.validation.images[index], int(data.validation.labels[index])
        name, key = f"validation image {index}", sample
    else:
        channels, height, _ = data.shape
        if not Path(sample).is_file():
            raise SettingError("--sample", f"must be an image file or an index, got {sample!r}.")
        image, label = read_like(experiment.dataset, Path(sample), size=height, channels=channels), None
        name, key = Path(sample).name, Path(sample).stem
    directory = out or arch_dir(run_dir, trial.arch_id, "explanation", f"image_{key}")
    found = explain_one_image(network, data, image, name=name, label=label, seed=trial.seed)
    at_start.check()
    make_output(directory)
    page, files = write_image(
        found,
        trial.arch_id,
        directory,
        known=(*_backbone_facts(experiment, trained), *trained.facts, *_data_facts(experiment)),
    )
    return WrittenPage(page, directory, tuple(files))


def debug(
    run_dir: Path,
    trial: Trial,
    *,
    corrupt: bool = False,
    pair: tuple[str, str] | None = None,
    seeds: int = 5,
    folds: int | None = None,
    review: int = 0,
    out: Path | None = None,
    device: str = "auto",
    options: ReadOptions = DEFAULT,
    report: Callable[[str], None] | None = None,
) -> WrittenPage:
    """Debug a trained network and its data: calibration, suspect labels, confused classes. Write the page.

    Args:
        run_dir: directory of the run.
        trial: training of the network; repeated if its weights are not kept.
        corrupt: corrupt labels on purpose, train on them, and measure how many are found.
        pair: two classes to push apart in a few more epochs; None: no repair.
        seeds: trainings of the repair, each with its own seed, at least 1.
        folds: networks that are trained without a part of the images, so that all suspects are ranked by out-of-sample
            probabilities; 0: none; None: 4, if the network has learned its labels by heart and they take a minute.
        review: images on the page review.html, on which a person reviews suspects; 0: no such page.
        out: directory of the page; `diagnostics/` next to the weights if None.
        device: "auto", "cpu" or "cuda".
        options: how the run and its data are read.
        report: receives the name of each long step.

    Raises:
        SettingError: an argument is out of range, or there is no class of that name.
        RunError: there is no trained network.
    """
    check_argument("seeds", seeds, AtLeastOne)
    check_folds(folds)
    check_output(out or run_dir)
    at_start = Place.of(run_dir)
    experiment, trained = _rebuild(run_dir, trial, device, options)
    network = trained.network
    data, place = experiment.data, resolve_device(device, "--device")
    classes = None if pair is None else find_pair(pair, data.train.class_names)
    distances = {score.scorer: score.distances for score in trial.evaluation.scores}
    found = debug_network(network, data, distances=distances, seed=trial.seed)
    if folds is None:
        folds = choose_folds(found.suspects, trial.evaluation.train_seconds)
    if folds:
        probabilities = out_of_sample(experiment, trial, folds, place, report)
        suspects = suspects_of(network, data, out_of_sample=probabilities, seed=trial.seed)
        found = replace(found, suspects=suspects)
    augmentation = experiment.dataset.augmentation
    planted = repaired = None
    if corrupt:
        if report:
            report("Training on corrupted labels")
        planted = plant_label_errors(
            lambda: experiment.untrained(trial.genotype, trial.seed),
            data,
            experiment.recipe,
            augmentation=augmentation,
            seed=trial.seed,
            device=place,
        )
    if classes is not None:
        if report:
            report("Repairing")
        repaired = repair_pair(
            network, data, classes, experiment.recipe, augmentation=augmentation, seeds=range(seeds), device=place
        )
    reader = experiment.dataset if isinstance(experiment.dataset, HasFiles) and data.train.files else None
    page = debugging_page(
        found,
        trial,
        path_of=None if reader is None else reader.path,
        planted=planted,
        repair=repaired,
        known=_known(run_dir, trial, experiment, trained),
        again=_computed_again(experiment),
        objectives=experiment.config.objectives,
    )
    directory = out or arch_dir(run_dir, trial.arch_id, "diagnostics")
    at_start.check()
    make_output(directory)
    files = write_debugging(page, found, directory)
    if review:
        files.append(write_review(found.suspects, experiment, trial, run_dir, directory, limit=review))
    return WrittenPage(page, directory, tuple(files))


def find_pair(names: tuple[str, str], class_names: Sequence[str]) -> tuple[int, int]:
    """Return the indices of two classes. Raises SettingError if a class is unknown, or both are the same."""
    unknown = [f"{name!r}. {did_you_mean(name, class_names)}" for name in names if name not in class_names]
    twice = [f"{name!r} twice." for name in names[:1] if names[0] == names[1]]
    for problem in (*unknown, *twice):
        raise SettingError("--repair", f"must name two different classes, got {problem}")
    return class_names.index(names[0]), class_names.index(names[1])


def _rebuild(run_dir: Path, trial: Trial, device: str, options: ReadOptions) -> tuple[Experiment, TrainedNetwork]:
    """Return the experiment of a run, and the trained network on the device."""
    place = resolve_device(device, "--device")
    experiment = Experiment.of_run(run_dir, options)
    trained = trained_network(run_dir, trial, experiment, device=device)
    trained.network.to(place)
    if isinstance(experiment.space, HasBackbone):  # a third faster through a backbone
        trained.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return experiment, trained


def _known(run_dir: Path, trial: Trial, experiment: Experiment, trained: TrainedNetwork) -> tuple[tuple[str, str], ...]:
    """Return facts about the network from all of its trainings, about its weights and its data."""
    facts = network_facts(read_summary(run_dir), trial.arch_id)
    return (*facts, *_backbone_facts(experiment, trained), *trained.facts, *_data_facts(experiment))


def _backbone_facts(experiment: Experiment, trained: TrainedNetwork) -> tuple[tuple[str, str], ...]:
    space = experiment.space
    return backbone_facts(space.pretrained(), trained.network) if isinstance(space, HasBackbone) else ()


def _data_facts(experiment: Experiment) -> tuple[tuple[str, str], ...]:
    """Return the fact that the data are not those of the search, if they are not."""
    difference = experiment.data_difference
    return (("data", f"NOT those of the search: {difference}"),) if difference else ()


def _computed_again(experiment: Experiment) -> str:
    """Return how the predictions of a page are computed, in contrast to those of the search."""
    if experiment.data_difference:
        return "on other data than those of the search"
    own, device = experiment.recipe.precision, torch.device("cuda" if torch.cuda.is_available() else "cpu")
    chosen = resolve_precision(own, device)
    if chosen == "float32":
        return "in float32, as the search, in which sums are rounded in another order"
    return f"in float32; the search computes in {chosen}" + (", by training.precision=auto" if own == "auto" else "")


def _shap_scorer(experiment: Experiment) -> ShapScorer:
    """Return the run's SHAP scorer, whose recorded distances are explained; the default one if it has none."""
    scorers = (experiment.scorer, *experiment.also_scored)
    return next((s for s in scorers if isinstance(s, ShapScorer)), ShapScorer())
