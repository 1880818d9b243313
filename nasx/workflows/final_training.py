"""Final training: train networks of the front in full, with several seeds, and evaluate each once on the test set."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import TypeAdapter
from torch import nn

import nasx
from nasx.backbones.features import on_features
from nasx.config.compose import compose_choice
from nasx.config.schema import Split
from nasx.config.settings import AtLeastOne, OpenShare, check_argument
from nasx.data.batches import Pixels, split_batches
from nasx.data.corrected import NO_CORRECTIONS
from nasx.data.dataset import LabeledImages, SearchData
from nasx.data.digest import (
    CORRECTIONS,
    LABELS,
    Contents,
    as_record,
    combined,
    find_difference,
    from_record,
)
from nasx.diagnostics.calibration import expected_calibration_error
from nasx.diagnostics.class_report import ClassReport, class_report
from nasx.diagnostics.confidence import Confidence, WithConfidence, batch_size, fit_confidence
from nasx.errors import ConfigError, DataError, RunError, SettingError, TrialFailure
from nasx.evaluation.train_and_score import has_learned, resolve_device, take_scores
from nasx.evaluation.weights import load_weights, save_weights
from nasx.experiment import Experiment
from nasx.files import read_record, write_record
from nasx.networks.backbone import backbone_of
from nasx.networks.costs import count_macs, count_parameters
from nasx.protocols import HasBackbone, HasPlaces
from nasx.reports.summary import ArchitectureResult
from nasx.runs.directory import Place, arch_dir, lock, make_output
from nasx.runs.stored_run import DEFAULT, ReadOptions, open_run
from nasx.runs.training_records import (
    SCORED_IMAGES,
    FinalRecord,
    TestSetEvaluation,
    Training,
    read_final_record,
    read_test_set_evaluations,
    record_test_set_evaluation,
    write_final_record,
)
from nasx.training.fit import fit
from nasx.trial import Trial, derive_seed

FINAL = "final"
Report = Callable[[Trial, int, Mapping[str, float]], None]  # network, number of its training, record of an epoch


RECIPE = "final"  # the choice of the group `training` if none is named
BACKBONE_RECIPE = "backbone"  # the same for networks on a backbone
STEPS_PER_EPOCH = 20  # below this number, batches are too large
MAX_BACKBONE_IMAGES = 2000  # test images that are scored through a backbone, whose features are stored
CALIBRATION = 0.05  # share of the images that calibrates the confidence
PLACES = (
    "root",
    "file",
    "cache",
    "corrections",
)  # of a dataset, never in the facts: their hash is in the list of test evaluations
CHANGEABLE = ("training", "dataset", "execution")  # groups that a final training may set differently from the search


@dataclass(frozen=True, eq=False)
class FinalTraining:
    """Plan of the final trainings of a run: on the training and validation images of the search."""

    experiment: Experiment  # its held-out images calibrate the confidence
    facts: Mapping[str, Any]  # everything that the result depends on, as plain JSON

    @property
    def identity(self) -> str:
        """Hash of the facts."""
        return hashlib.sha256(json.dumps(self.facts, sort_keys=True).encode()).hexdigest()[:16]

    def seed(self, arch_id: str, number: int) -> int:
        """Return the seed of a network's training of that number."""
        return derive_seed(self.experiment.config.seed, arch_id, "final", number)


def plan_final_training(
    run_dir: Path,
    overrides: Sequence[str] = (),
    *,
    width: int = 1,
    calibration: float = CALIBRATION,
    options: ReadOptions = DEFAULT,
) -> FinalTraining:
    """Plan the final trainings of a run, and read its training images.

    Args:
        run_dir: directory of the run.
        overrides: `key=value` settings of training, dataset and execution; others raise ConfigError.
        width: multiplies the number of filters of the search.
        calibration: share of the images, in (0, 1), that calibrates the confidence instead of being trained on.
        options: how the run and its data are read; its own overrides are not used.

    Raises ConfigError, SettingError, DataError or RunError.
    """
    check_argument("--calibration", calibration, OpenShare)
    own = [o for o in overrides if _group(o) == "training"]
    others = [o for o in overrides if _group(o) != "training"]
    if unknown := [o for o in others if _group(o) not in CHANGEABLE]:
        raise ConfigError(f"{unknown[0]}: a final training may change only {', '.join(CHANGEABLE)}.")
    trust, groups = options.trust_code, ("dataset", "execution")
    with open_run(run_dir, others, may_change=groups, trust_code=trust, notify=options.notify) as run:
        searched = Experiment.of_stored(run, options)
    config = searched.config
    if config.evaluation is not None:
        raise RunError(f"{run_dir} looked its candidates up in a table: it has no dataset to train on.")
    final = replace(
        config,
        space=widened(config.space, width),
        training=_fitting_recipe(_recipe_node(own, searched, options.notify), own, searched, options.notify),
        split=Split(validation_fraction=calibration, train_images=None, validation_images=None),
    )
    experiment = replace(searched, config=final, held_out="calibration")
    try:
        _ = experiment.data
    except SettingError as exc:
        raise SettingError("--calibration", exc.problem + ".") from exc
    facts = {
        "space": dict(final.space),
        "dataset": {name: value for name, value in config.dataset.items() if name not in PLACES},
        "training": experiment.recipe.as_record(),
        "width": width,
        "calibration": calibration,
        "seed": config.seed,
    }
    if corrections := experiment.image_content.get(CORRECTIONS):
        counts = {name: corrections.facts[name] for name in ("relabeled", "dropped")}
        facts["corrections"] = {**counts, "digest": corrections.digest}
    if difference := experiment.data_difference:
        facts["data"] = {"difference": difference, "digest": combined(experiment.image_content)}
    return FinalTraining(experiment, facts)


def _without_places(facts: Mapping[str, Any], experiment: Experiment) -> dict[str, Any]:
    """Return facts for a comparison: without the places of the data, whose content is compared separately."""
    places = experiment.dataset.places if isinstance(experiment.dataset, HasPlaces) else ()
    dataset = {name: value for name, value in facts["dataset"].items() if name not in places}
    space = {name: value for name, value in facts["space"].items() if name != "weights"}  # file of a backbone's weights
    return {**facts, "dataset": dataset, "space": space}


def training_node(overrides: Sequence[str], default: str = RECIPE) -> Mapping[str, Any]:
    """Return the config of the recipe `training=NAME` with `training.key=value` on top.

    Args:
        overrides: of the group `training`.
        default: name of the recipe if they do not choose one.
    """
    names = [o.partition("=")[2] for o in overrides if o.partition("=")[0] == "training"]
    settings = [o for o in overrides if o.partition("=")[0] != "training"]
    return compose_choice("training", names[-1] if names else default, settings)


def _recipe_node(own: Sequence[str], searched: Experiment, notify: Callable[[str], None]) -> Mapping[str, Any]:
    """Return the config of the recipe, by default that for networks with or without a backbone.

    Args:
        own: overrides of the recipe by the user.
        searched: the experiment of the run.
        notify: receives a message for the user if the recipe is not `final`.
    """
    if not isinstance(searched.space, HasBackbone):
        return training_node(own)
    if not any(o.partition("=")[0] == "training" for o in own):
        notify(f"training={BACKBONE_RECIPE}: the recipe for networks on a backbone; training={RECIPE} is for others.")
    return training_node(own, BACKBONE_RECIPE)


def _fitting_recipe(
    recipe: Mapping[str, Any], own: Sequence[str], searched: Experiment, notify: Callable[[str], None]
) -> Mapping[str, Any]:
    """Return the recipe; with batch size and learning rate of the search if its batches are too large for few images.

    Args:
        recipe: of the final training.
        own: overrides of the recipe by the user, who may want such batches.
        searched: the experiment of the run.
        notify: receives a message for the user if the recipe is changed.
    """
    labels = searched.recorded.get(LABELS)
    n = labels.facts.get("images") if labels else None
    names = {o.lstrip("+").partition("=")[0] for o in own}
    search = searched.config.training
    if not isinstance(n, int) or names & {"training", "training.batch_size"} or "batch_size" not in search:
        return recipe
    if n >= STEPS_PER_EPOCH * recipe["batch_size"] or search["batch_size"] >= recipe["batch_size"]:
        return recipe
    changed = {key: search[key] for key in ("batch_size", "learning_rate") if f"training.{key}" not in names}
    words = " and ".join(f"training.{key}={value:g}" for key, value in changed.items())
    notify(f"{words}, as in the search: batches of {recipe['batch_size']} are too large for {n:,} images.")
    return {**recipe, **changed}


def widened(space: Mapping[str, Any], width: int) -> Mapping[str, Any]:
    """Return the config of a space with `width` times as many filters. Raises SettingError if it has no channels."""
    check_argument("--width", width, AtLeastOne)
    if width > 1 and not isinstance(space.get("channels"), int):
        raise SettingError("--width", "multiplies space.channels, but the space of this run has no such setting.")
    return {**space, "channels": width * space["channels"]} if width > 1 else space


def _group(override: str) -> str:
    return override.lstrip("+~").partition("=")[0].partition(".")[0]


def final_dir(run_dir: Path, arch_id: str) -> Path:
    """Return the directory of a network's final trainings."""
    return arch_dir(run_dir, arch_id, FINAL)


def weights_path(directory: Path, number: int) -> Path:
    return directory / f"weights_{number}.safetensors"


def train(
    plan: FinalTraining,
    trial: Trial,
    directory: Path,
    *,
    seeds: int,
    found: ArchitectureResult | None = None,
    report: Report | None = None,
) -> FinalRecord:
    """Train the network of `trial` with each of `seeds` seeds, and return the record of all trainings.

    Finished trainings are not repeated. An interrupted one resumes from its last checkpoint, to the same weights.

    Args:
        plan: of the run's final trainings.
        trial: training of the network in the search.
        directory: receives record, weights and checkpoints.
        seeds: number of trainings.
        found: estimate from all trainings of the network in the search; None: `trial` is the only one.
        report: receives the record of each epoch.

    Raises RunError if the directory has trainings of another plan or is in use, or if a training diverges.
    """
    with _held(directory):
        record = _begin(plan, trial, found, directory)
        for number in _due(record, directory, seeds):
            record = _train_one(plan, trial, directory, record, number, report)
    return record


def _due(record: FinalRecord | None, directory: Path, seeds: int) -> list[int]:
    """Return the numbers of the trainings that are not finished."""
    finished = [] if record is None else [training.number for training in record.trainings]
    return [n for n in range(seeds) if n not in finished or not weights_path(directory, n).is_file()]


@contextmanager
def _held(directory: Path) -> Iterator[None]:
    """Lock the directory of a network's final trainings: two processes would write the same checkpoint."""
    make_output(directory)
    with lock(directory, "training", "train into another --out"):
        yield


def _begin(plan: FinalTraining, trial: Trial, found: ArchitectureResult | None, directory: Path) -> FinalRecord:
    record = read_final_record(directory)
    if record is not None:
        before, now = (_without_places(facts, plan.experiment) for facts in (record.course, plan.facts))
        if before != json.loads(json.dumps(now)):  # tuples have become lists
            raise RunError(
                f"{directory} contains a training with other settings ({_difference(before, now)}). "
                "Use the same settings, or another directory with --out."
            )
        return record
    network = plan.experiment.untrained(trial.genotype, 0)
    data = plan.experiment.data
    return FinalRecord(
        arch_id=trial.arch_id,
        architecture=trial.architecture,
        genotype=trial.genotype,
        course=plan.facts,
        class_names=data.train.class_names,
        shape=data.shape,
        mean=tuple(data.mean.tolist()),
        std=tuple(data.std.tolist()),
        images={"train": len(data.train), "calibration": len(data.validation)},
        parameters=count_parameters(network),
        macs=count_macs(network, data.shape),
        validation_error=(trial if found is None else found).metrics["error"],
        validation_error_std=None if found is None else found.std.get("error"),
        search_trainings=1 if found is None else found.trainings,
        versions={"nasx": nasx.__version__, "torch": version("torch"), "python": platform.python_version()},
    )


def compute_features(plan: FinalTraining, trials: Sequence[tuple[Trial, Path]], *, seeds: int) -> None:
    """Compute the features on which networks with a frozen backbone will be trained; for others do nothing.

    Args:
        plan: of the run's final trainings.
        trials: of the networks, each with the directory of its final trainings.
        seeds: number of trainings.
    """
    experiment, cuts = plan.experiment, set()
    for trial, directory in trials if isinstance(experiment.space, HasBackbone) else ():
        if _due(read_final_record(directory), directory, seeds):
            backbone = backbone_of(experiment.untrained(trial.genotype, 0))
            cuts |= set() if backbone is None or backbone.cut is None else {backbone.cut}
    if cuts:
        experiment.compute_features(sorted(cuts))


def _on_features(plan: FinalTraining, network: nn.Sequential) -> tuple[nn.Sequential, SearchData]:
    """Return the trained part of a network, and the data of the training that it reads."""
    experiment = plan.experiment
    augmentation = experiment.dataset.augmentation
    return on_features(network, experiment.data, views=experiment.recipe.views, augmentation=augmentation)


def _train_one(
    plan: FinalTraining, trial: Trial, directory: Path, record: FinalRecord, number: int, report: Report | None
) -> FinalRecord:
    seed = plan.seed(trial.arch_id, number)
    checkpoint = directory / f"checkpoint_{number}.safetensors"
    device = resolve_device(plan.experiment.config.execution.get("device", "auto"))
    network = plan.experiment.untrained(trial.genotype, seed)
    place = Place.of(directory)

    def after_epoch(epoch: Mapping[str, float]) -> None:
        place.check()
        if report is not None:
            report(trial, number, epoch)

    try:
        fitted = fit(
            network,
            plan.experiment.data,
            plan.experiment.recipe,
            augmentation=plan.experiment.dataset.augmentation,
            seed=seed,
            device=device,
            checkpoint=checkpoint,
            report=after_epoch,
        )
    except TrialFailure as failure:
        raise RunError(
            f"the training of {trial.arch_id} failed ({failure.detail}): lower training.learning_rate."
        ) from failure
    part, read = _on_features(plan, network)
    images = Pixels(read.validation, mean=read.mean, std=read.std, device=device)
    confidence = fit_confidence(part, images, images.labels, n_classes=plan.experiment.data.n_classes)
    place.check()
    save_weights(network, weights_path(directory, number))
    write_confidence(confidence, directory, number)
    record = record.with_training(Training(number, seed, fitted.seconds, fitted.history))
    write_final_record(record, directory)
    checkpoint.unlink(missing_ok=True)  # last: if killed before, a resumed training finds all of its epochs done
    return record


def test(
    plan: FinalTraining,
    records: Sequence[tuple[FinalRecord, Path]],
    run_dir: Path,
    *,
    seeds: int,
    report: Callable[[str], None] | None = None,
) -> tuple[list[FinalRecord], list[TestSetEvaluation]]:
    """Evaluate trainings on the test set, and return the records with the results, and all earlier evaluations.

    Each training is evaluated once. The evaluation is recorded before it starts.

    Args:
        plan: of the run's final trainings.
        records: each with its directory.
        run_dir: directory of the run, which has the list of test-set evaluations.
        seeds: number of trainings of each network to evaluate.
        report: receives the progress in words.
    """
    tested: list[FinalRecord] = []
    before: list[TestSetEvaluation] | None = None
    images: LabeledImages | None = None
    content: Contents = {}
    for record, directory in records:
        due = [t for t in record.trainings if t.number < seeds and t.test is None]
        if due:
            if images is None:
                images, content = _test_images(plan)
            check_test_images(plan, record, run_dir, content)
            numbers = [t.number for t in due]
            touches = record_test_set_evaluation(run_dir, record.arch_id, plan.identity, numbers, combined(content))
            before = touches if before is None else before  # evaluations of this call are not earlier ones
            counts = {**record.images, "test": len(images)}
            record = replace(record, images=counts, test_content=as_record(content))
            with _held(directory):
                for training in due:
                    outcome, confusion = _test_one(plan, record, directory, training, images, report)
                    record = record.with_training(replace(training, test=outcome, confusion=confusion))
                write_final_record(record, directory)
        tested.append(record)
    return tested, before or []


def check_test_images(plan: FinalTraining, record: FinalRecord, run_dir: Path, content: Contents) -> None:
    """Raise DataError if the test images are not those of earlier evaluations, with which they would be compared.

    Args:
        plan: of the run's final trainings.
        record: of the network to be tested: its test errors are averaged.
        run_dir: directory of the run, whose networks are compared by their test errors.
        content: of the test images.
    """
    before: Contents = from_record(record.test_content)
    if before:  # only one of them may have corrections
        before = {CORRECTIONS: NO_CORRECTIONS, **before}
    difference = find_difference(before, {CORRECTIONS: NO_CORRECTIONS, **content})
    known = record.images.get("test")  # all that records of older versions have
    if not record.test_content and known not in (None, content[LABELS].facts["images"]):
        difference = f"{known:,} images then, {content[LABELS].facts['images']:,} now"
    if difference:
        raise DataError(
            f"the test images are not those of the earlier trainings of {record.arch_id}: {difference}. Their test "
            "errors would be averaged: restore the test images, or train into another directory with --out."
        )
    others = [e for e in read_test_set_evaluations(run_dir) if e.content not in ("", combined(content))]
    if others and not plan.experiment.options.other_data:
        raise DataError(
            f"the test images are not those on which this run tested {others[-1].arch_id} at {others[-1].time[:10]}: "
            "the test errors of its networks could not be compared. Restore the test images, or use --other-data."
        )


def _test_images(plan: FinalTraining) -> tuple[LabeledImages, Contents]:
    """Return the test images, with corrections, and their content."""
    images, content = plan.experiment.test_images()
    ours = plan.experiment.data.train
    if (images.shape, images.class_names) != (ours.shape, ours.class_names):
        raise DataError(
            f"the test images of {plan.experiment.dataset.name} are not like its training images: "
            f"{images.shape}, {images.n_classes} classes; {ours.shape}, {ours.n_classes} classes."
        )
    return images, content


def _test_one(
    plan: FinalTraining,
    record: FinalRecord,
    directory: Path,
    training: Training,
    images: LabeledImages,
    report: Callable[[str], None] | None = None,
) -> tuple[dict[str, float | None], tuple[tuple[int, int, int], ...]]:
    """Return the metrics of a training on the test images, and its confusions as in `Training`.

    Predictions are those of the whole network; scores, of what is on top of a frozen backbone, are taken on features.

    Args:
        plan: of the run's final trainings.
        record: of the network.
        directory: of its trainings.
        training: to be tested.
        images: of the test set.
        report: receives the progress in words.
    """
    device = resolve_device(plan.experiment.config.execution.get("device", "auto"))
    network = plan.experiment.untrained(record.genotype, training.seed)
    load_weights(network, weights_path(directory, training.number))
    network.to(device).eval()
    pixels = _pixels(plan, images, device)
    name = f"Testing {record.arch_id} seed {training.number + 1}"

    def watch(done: int) -> None:
        if report:
            report(f"{name}: image {done:,} of {len(images):,}")

    confidence = read_confidence(directory, training.number)
    metrics, found = quality(network, confidence, pixels, images.class_names, watch=watch)
    confusion = found.entries()
    if not has_learned(metrics, images):  # as in a search: no score at chance level
        return {**metrics, "introspectability": None}, confusion
    try:
        part, read = _scored(plan, network, images)
        scores = take_scores(part, read.validation, read, plan.experiment.spec, device)
    except TrialFailure:  # no pair of classes has a distance: null
        return {**metrics, "introspectability": None}, confusion
    named = {f"introspectability_{score.scorer}": score.value for score in scores}
    scored = {} if len(read.validation) == len(images) else {SCORED_IMAGES: len(read.validation)}
    return {**metrics, "introspectability": scores[0].value, **named, **scored}, confusion


def _scored(plan: FinalTraining, network: nn.Sequential, images: LabeledImages) -> tuple[nn.Sequential, SearchData]:
    """Return the part of a network that is scored, and data whose validation images are those of the test set."""
    if backbone_of(network) is not None and len(images) > MAX_BACKBONE_IMAGES:
        generator = np.random.default_rng(plan.experiment.spec.score_seed)
        images = images.take(np.sort(generator.permutation(len(images))[:MAX_BACKBONE_IMAGES]))
    data = plan.experiment.data
    nothing = data.train.take(np.arange(0))
    return on_features(network, replace(data, train=nothing, validation=images))


def quality(
    network: nn.Sequential,
    confidence: Confidence,
    images: Pixels,
    class_names: Sequence[str],
    *,
    watch: Callable[[int], None] = lambda done: None,
) -> tuple[dict[str, float], ClassReport]:
    """Return the errors of a network on labeled images and the calibration error of its confidence, and its report.

    Args:
        network: trained.
        confidence: of its predictions.
        images: labeled.
        class_names: of all classes.
        watch: called with the number of images that are finished.
    """
    model = WithConfidence(network, confidence).to(images.device).eval()
    parts, done = [], 0
    with torch.no_grad():
        for batch in split_batches(images, batch_size(images.shape[1:])):
            parts.append(model.judge(batch))
            done += len(batch)
            watch(done)
    logits, sure = (torch.cat(column) for column in zip(*parts, strict=True))
    answers, plain = logits.argmax(dim=1), logits.softmax(dim=1).amax(dim=1)
    right = (answers == images.labels).cpu().numpy()
    report = class_report(images.labels.cpu().numpy(), answers.cpu().numpy(), class_names)
    metrics = {
        "error": report.error,
        "macro_error": report.macro_error,
        "ece": expected_calibration_error(plain.cpu().numpy(), right),
        "calibrated_ece": expected_calibration_error(sure.cpu().numpy(), right),
    }
    return metrics, report


_CONFIDENCE = TypeAdapter(dict[str, Any])


def write_confidence(confidence: Confidence, directory: Path, number: int) -> None:
    write_record(directory / f"confidence_{number}.json", confidence.as_dict(), _CONFIDENCE, indent=None, checksum=True)


def read_confidence(directory: Path, number: int) -> Confidence:
    """Read the confidence of a training. Raises RunError if the file is missing or damaged."""
    file = directory / f"confidence_{number}.json"
    try:
        found = read_record(file, _CONFIDENCE, remedy="")
        return Confidence.from_dict(found or {})
    except (RunError, ValueError, TypeError, KeyError) as exc:
        raise RunError(f"{file} is missing or damaged. Remove its directory to train again.") from exc


def _pixels(plan: FinalTraining, images: LabeledImages, device: torch.device) -> Pixels:
    return Pixels(images, mean=plan.experiment.data.mean, std=plan.experiment.data.std, device=device)


def _difference(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> str:
    """Return the settings that differ between two plans, e.g. "training.epochs: 200, now 100"."""
    found = []
    for name in sorted({*before, *now}):
        old, new = before.get(name), json.loads(json.dumps(now.get(name)))
        if isinstance(old or new, Mapping) and isinstance(new or old, Mapping):  # None: e.g. no corrections
            found.append(_difference(old or {}, new or {}, f"{prefix}{name}."))
        elif old != new:
            found.append(f"{prefix}{name}: {old}, now {new}")
    return ", ".join(filter(None, found))
