"""Source of an export: a network with its trained weights, its confidence and the facts for its model card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from torch import nn

import nasx
from nasx.backbones.facts import backbone_facts
from nasx.backbones.features import on_features
from nasx.config.components import build, current_settings, dataset_name
from nasx.config.trust import check_targets
from nasx.data.batches import Pixels
from nasx.data.corrections import in_words
from nasx.data.image_files import interpolation_of
from nasx.diagnostics.class_report import ClassReport, from_entries
from nasx.diagnostics.confidence import Confidence, fit_confidence
from nasx.errors import RunError
from nasx.evaluation.weights import load_weights
from nasx.experiment import Experiment
from nasx.export.deployed import Description
from nasx.networks.untrained import build_untrained
from nasx.protocols import HasBackbone, SearchSpace
from nasx.reports.summary import read_summary
from nasx.reports.text import format_estimate, network_facts
from nasx.runs.check import genotype_problem
from nasx.runs.stored_run import DEFAULT, ReadOptions, open_run
from nasx.runs.training_records import FINAL_RECORD, FinalRecord, read_final_record, read_test_set_evaluations
from nasx.trial import OBJECTIVES, Genotype, Trial
from nasx.workflows.final_training import final_dir, quality, read_confidence, weights_path
from nasx.workflows.trained_network import trained_network


@dataclass(frozen=True, eq=False)
class Source:
    """Trained network to export, with the content of its model card."""

    network: nn.Sequential  # in evaluation mode, on the CPU
    confidence: Confidence
    mean: tuple[float, ...]  # (channels,) of the training images, scaled to [0, 1]
    std: tuple[float, ...]
    description: Description
    origin: str  # sentence for the card: final training or search
    facts: Mapping[str, str]  # figures for the card, name -> value
    recipe: Mapping[str, Any]  # training settings for the card
    n_calibration: int  # number of images for the calibration of the confidence

    def __repr__(self) -> str:
        return f"<nasx source of an export: {self.description.arch_id}>"

    report: ClassReport | None = None  # recall, precision and confusions; None: unknown
    report_image: str = "validation image"  # images of the report, in the singular
    no_report: str = ""  # sentence: why there is no report
    corrections: str = ""  # number of corrected labels in use, in words; "": none


def find_source(run_dir: Path, trial: Trial, *, final: Path | None = None, options: ReadOptions = DEFAULT) -> Source:
    """Load the network of a trial from its final training if there is one, otherwise from the search.

    If the search did not keep its weights, it is trained again from its seed.

    Args:
        run_dir: Directory of the run.
        trial: Trial of the network.
        final: Directory of the final training; None: the one in `run_dir`.
        options: How the run and its data are read.

    Raises:
        RunError: If there is neither a final training nor a trained network of the search.
    """
    directory = final or final_dir(run_dir, trial.arch_id)
    record = read_final_record(directory)
    if record is not None and record.trainings:
        if not options.trust_code:
            check_targets({name: record.course.get(name) for name in ("space", "dataset")}, str(directory))
        return _from_final(run_dir, record, directory, options)
    return _from_search(run_dir, trial, options)


def _from_final(run_dir: Path, record: FinalRecord, directory: Path, options: ReadOptions) -> Source:
    """Load the network of the first final training."""
    training = record.trainings[0]  # not the best one: test errors must not select a network
    with open_run(run_dir, options.overrides, trust_code=options.trust_code, notify=options.notify) as run:
        config = run.config  # has the place of the data; the record has only their name, which may be that of a folder
    node = _placed(record.course["space"], config["space"])
    space: SearchSpace = build(node, "space")
    if problem := genotype_problem(space, record.genotype):
        raise RunError(f"{directory / FINAL_RECORD} is damaged: {problem}. Remove its directory to train again.")
    network = build_untrained(
        space,
        record.genotype,
        input_shape=record.shape,
        n_classes=len(record.class_names),
        n_unfrozen=int(record.course["training"].get("unfreeze", 0)),
    )
    load_weights(network, weights_path(directory, training.number))
    confidence = read_confidence(directory, training.number)
    n = len(record.trainings)
    origin = (
        f"Final training on {record.images['train']:,} images, "
        f"with the first of {n} seed{'s' * (n > 1)}; not selected by its test error."
    )
    dataset = {**config["dataset"], **record.course["dataset"]}
    description = _describe(record.arch_id, record.architecture, record.class_names, record.shape, dataset)
    return Source(
        network.eval(),
        confidence,
        record.mean,
        record.std,
        _rebuildable(description, node, record.genotype, record.mean, record.std, confidence),
        origin,
        _final_facts(run_dir, record) | _backbone_facts(space, network),
        current_settings(record.course["training"]),
        record.images["calibration"],
        report=None if training.confusion is None else from_entries(training.confusion, record.class_names),
        report_image="test image",
        no_report="these weights were not tested, or by a version that did not record it.",
        corrections=in_words(record.course.get("corrections", {})),
    )


def _placed(space: Mapping[str, Any], of_run: Mapping[str, Any]) -> dict[str, Any]:
    """Return a space with the files at their places in the run, which may have changed since a final training."""
    return {name: of_run.get(name, value) if name == "weights" else value for name, value in space.items()}


def _final_facts(run_dir: Path, record: FinalRecord) -> dict[str, str]:
    """Return the figures of a final training for the model card."""
    test = record.trainings[0].test
    searched = format_estimate(OBJECTIVES["error"], record.validation_error, record.validation_error_std)
    times = f"{record.search_trainings} training{'s' * (record.search_trainings > 1)}"
    facts = {"validation error in the search": f"{searched} (estimate from {times} of it and from similar networks)"}
    if record.validation_error_std is None:
        facts = {"validation error in the search": f"{searched} (mean of {times})"}
    if test is not None:
        tested = [t.test for t in record.trainings if t.test is not None]
        facts |= {
            "test error of these weights": f"{_percent(test['error'])} of {record.images['test']:,} images",
            f"test error over {len(tested)} trainings": _spread([t["error"] for t in tested]),
            "expected calibration error of the confidence, on the test images": _percent(test["calibrated_ece"]),
            "expected calibration error of plain softmax": _percent(test["ece"]),
            "introspectability, on the test images": _number(test["introspectability"]),
            "test-set evaluations by networks of this search": str(len(read_test_set_evaluations(run_dir))),
        }
    if "data" in record.course:
        facts["training images"] = f"NOT those of the search: {record.course['data']['difference']}"
    return facts | _sizes(record.parameters, record.macs)


def _from_search(run_dir: Path, trial: Trial, options: ReadOptions) -> Source:
    """Load the network with the weights of the search, and calibrate its confidence."""
    experiment = Experiment.of_run(run_dir, options)
    trained = trained_network(run_dir, trial, experiment)
    network, data = trained.network, experiment.data
    part, read = on_features(network, data)  # one pass less through a backbone
    held_out = Pixels(read.validation, mean=read.mean, std=read.std)
    confidence = fit_confidence(part, held_out, held_out.labels, n_classes=data.n_classes)
    metrics = trial.metrics
    known = experiment.data_difference
    facts = {"calibration images": f"NOT those of the search: {known}"} if known else {}
    error = metrics["error"] if trained.retrained is None else trained.retrained.error
    facts |= {
        **dict(trained.facts),
        "validation error of these weights": f"{_percent(error)} of {len(data.validation):,} images, "
        "in the search; the network was selected by these images, so the error on others may be larger",
        **dict(network_facts(read_summary(run_dir), trial.arch_id)),
        "test error": "unknown: these weights were not tested",
        "introspectability, on the validation images": _number(metrics.get("introspectability")),
        **_sizes(metrics["parameters"], metrics["macs"]),
        **_backbone_facts(experiment.space, network),
    }
    weights = "Weights of the search" if trained.retrained is None else "Weights of a training as in the search"
    mean, std = tuple(data.mean.tolist()), tuple(data.std.tolist())
    description = _describe(
        trial.arch_id, trial.architecture, data.train.class_names, data.shape, dict(experiment.config.dataset)
    )
    return Source(
        network,
        confidence,
        mean,
        std,
        _rebuildable(description, experiment.config.space, trial.genotype, mean, std, confidence),
        f"{weights}, trained briefly on {len(data.train):,} images; use `nasx train` for a final training.",
        facts,
        asdict(experiment.recipe),
        len(data.validation),
        report=quality(part, confidence, held_out, data.train.class_names)[1],
        corrections=experiment.corrections_in_words,
    )


def _describe(
    arch_id: str, architecture: str, names: tuple[str, ...], shape: tuple[int, int, int], dataset: Mapping[str, Any]
) -> Description:
    name = dataset_name({"dataset": dataset})
    value_range = dataset.get("value_range")  # a setting of readers of image files
    used = None if value_range is None else (float(value_range[0]), float(value_range[1]))
    interpolation = interpolation_of(dataset.get("interpolation"))
    return Description(
        arch_id, architecture, names, shape, name, nasx.__version__, value_range=used, interpolation=interpolation
    )


def _rebuildable(
    description: Description,
    space: Mapping[str, Any],
    genotype: Genotype,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    confidence: Confidence,
) -> Description:
    rebuild = {
        "space": dict(space),
        "genotype": list(genotype),
        "mean": list(mean),
        "std": list(std),
        "confidence": confidence.as_dict(),
    }
    return replace(description, rebuild=rebuild)


def _backbone_facts(space: SearchSpace, network: nn.Sequential) -> dict[str, str]:
    return dict(backbone_facts(space.pretrained(), network)) if isinstance(space, HasBackbone) else {}


def _sizes(parameters: float, macs: float) -> dict[str, str]:
    return {"parameters": f"{parameters:,.0f}", "multiply-accumulates per image": f"{macs:,.0f}"}


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f} %"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _spread(errors: list[float | None]) -> str:
    known = [error for error in errors if error is not None]
    spread = f" ± {100 * stdev(known):.2f}" if len(known) > 1 else ""
    return f"{100 * fmean(known):.2f}{spread} %"
