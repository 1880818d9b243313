"""Packaged configs: all compose, all components can be built, all settings have comments."""

import inspect
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

from nasx.config.auto import CHOSEN
from nasx.config.components import build
from nasx.config.compose import compose, compose_choice
from nasx.config.find import description, known_choices, known_configs, known_groups, packaged_directory
from nasx.config.schema import Search, read_config
from nasx.data.augmentation import Augmentation
from nasx.execution.budget import MIN_GAIN, SearchLimits
from nasx.planning.transfer import BACKBONE, SCRATCH
from nasx.protocols import Problem
from nasx.workflows.final_training import CALIBRATION

PACKAGES = {"mlflow": "mlflow", "wandb": "wandb"}  # choice -> package of an extra
EXPERIMENTS = sorted(p.stem for p in packaged_directory().glob("*.yaml") if p.stem != "base")
CHOICES = sorted((p.parent.name, p.stem) for p in packaged_directory().glob("*/*.yaml"))
REQUIRED = {
    "tabular": ["evaluation.table=table.csv"],
    "cluster": ["execution.workers=4"],
    "nats_bench": ["evaluation.table=table.csv"],
}
OF_FOLDERS = [
    *(f"dataset.{setting}" for setting in ("image_size=64", "grayscale=false", "interpolation=bicubic")),
    *(f"training.{setting}" for setting in ("batch_size=32", "epochs=20")),
    *(f"algorithm.{setting}" for setting in ("population_size=16", "evaluations=64")),
    "search.replicates=0",
]
NUMBERS = {  # instead of `auto`, which `nasx.planning` replaces before a component is built
    "folder": [
        *("space=nb201", "training=folder"),
        *(f"space.{setting}" for setting in ("channels=16", "cells=1")),
        *(f"dataset.augmentation.{setting}" for setting in ("horizontal_flip=false", "cutout=0.25")),
        *OF_FOLDERS,
    ],
    "photos": OF_FOLDERS,
}
FROM_THE_SEARCH = {"algorithm": {"problem": Problem(gene_sizes=(5,) * 6, n_objectives=2, seed=0)}}


CHOSEN_LATER = [(group, "auto") for group in CHOSEN]  # by `nasx.planning`, which replaces them by another choice


def build_group(config: dict[str, Any], group: str) -> Any:
    node = getattr(read_config(config), group)
    if "root" in node:
        node = {**node, "root": "somewhere"}
    return build(node, group, **FROM_THE_SEARCH.get(group, {}))


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_composes_and_builds(elsewhere: Path, name: str) -> None:
    config = compose(name, [*REQUIRED.get(name, []), *NUMBERS.get(name, [])])

    for group in set(config) & {"dataset", "space", "training", "scorer", "algorithm", "evaluation"}:
        assert build_group(config, group) is not None
    for scorer, node in config["also_scored"].items():
        assert build(node, f"also_scored.{scorer}").name


@pytest.mark.parametrize(("group", "choice"), sorted({*CHOICES} - {*CHOSEN_LATER}))
def test_a_choice_builds_in_any_experiment(elsewhere: Path, group: str, choice: str) -> None:
    if choice in PACKAGES:
        pytest.importorskip(PACKAGES[choice])
    assert build_group(compose("lines", [f"{group}={choice}", *REQUIRED.get(choice, [])]), group) is not None


def defaults_of(component: Any) -> dict[str, Any]:
    parameters = inspect.signature(component).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


NOT_OF_THE_CLASS = ("_target_", "evaluations", "early_stopping", "corrections")
OWN_CLASS = [  # the other choices change another one
    (group, choice)
    for group, choice in CHOICES
    if "_target_:" in (packaged_directory() / group / f"{choice}.yaml").read_text()
    and (group, choice) not in CHOSEN_LATER
]
VARIANTS = {  # choice -> what it changes
    ("scorer", "activations_balanced"): {"layer_balanced": True},
    ("scorer", "activations_predicted"): {"group_by": "predicted"},
}


@pytest.mark.parametrize(("group", "choice"), OWN_CLASS)
def test_a_choice_states_the_defaults_of_its_class(group: str, choice: str) -> None:
    node = yaml.safe_load((packaged_directory() / group / f"{choice}.yaml").read_text())
    module, _, name = node["_target_"].rpartition(".")
    stated = {key: value for key, value in node.items() if key not in NOT_OF_THE_CLASS}
    defaults = defaults_of(getattr(import_module(module), name))

    assert defaults.keys() <= stated.keys()  # every setting with a default is in the file
    for key in stated.keys() & defaults.keys():
        expected = VARIANTS.get((group, choice), {}).get(key, defaults[key])
        found = tuple(stated[key]) if isinstance(stated[key], list) else stated[key]
        assert found == (vars(expected) if isinstance(expected, Augmentation) else expected), key


@pytest.mark.parametrize("group", CHOSEN)
def test_a_group_that_is_chosen_later_lists_the_settings_of_all_its_choices(group: str) -> None:
    listed = compose("folder", [f"{group}=auto"])[group]
    settings = {key for name in choices_of(group) for key in compose_choice(group, name)}

    assert listed.keys() == settings
    assert set(listed.values()) == {"auto"}


def choices_of(group: str) -> tuple[str, str]:
    return SCRATCH[group], BACKBONE[group]


def test_base_states_the_defaults_of_a_search() -> None:
    stated = compose("lines")["search"]

    assert defaults_of(Search).items() <= stated.items()
    ours = defaults_of(SearchLimits)
    assert stated == {key: ours[key] for key in stated}
    comments = (packaged_directory() / "base.yaml").read_text()
    assert f"share of the last {ours['failure_window']} trials" in comments
    assert f"without {100 * MIN_GAIN:g} % more hypervolume" in comments


def test_the_smallest_share_of_the_images_that_calibrate_is_documented() -> None:
    assert CALIBRATION == 0.05


ALGORITHMS = [choice for group, choice in CHOICES if group == "algorithm"]


@pytest.mark.parametrize("choice", ALGORITHMS)
@pytest.mark.parametrize(("share", "built"), [("auto", "auto"), ("0", 0.0), ("0.4", 0.4)])
def test_every_algorithm_takes_the_share_of_trainings_that_train_networks_again(
    elsewhere, choice, share, built
) -> None:
    config = compose("lines", [f"algorithm={choice}", f"algorithm.retraining={share}"])
    assert build_group(config, "algorithm").retraining == built


def test_only_the_default_algorithm_trains_networks_again_unless_the_config_asks_for_it(elsewhere) -> None:
    shares = {choice: compose("lines", [f"algorithm={choice}"])["algorithm"]["retraining"] for choice in ALGORITHMS}
    assert {choice for choice, share in shares.items() if share != 0} == {"nsga2"}


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_begins_with_the_command_that_runs_it(name: str) -> None:
    first = (packaged_directory() / f"{name}.yaml").read_text().splitlines()[0]

    assert first.startswith(f"# nasx search --config {name}.yaml")


def test_every_file_has_a_description_and_every_setting_a_comment() -> None:
    for file in packaged_directory().rglob("*.yaml"):
        lines = file.read_text().splitlines()
        settings = [ln for ln in lines if not ln.startswith(("_target_", "defaults:", "#")) and ln.partition(": ")[2]]
        bare = [ln for ln in settings if "#" not in ln and not ln.strip().startswith("- ")]
        assert description(file), file
        assert not bare, f"{file}: {bare}"


def test_the_commands_lists_are_those_of_the_files(elsewhere: Path) -> None:
    assert sorted(known_configs()) == EXPERIMENTS
    assert sorted((group, choice) for group in known_groups() for choice in known_choices(group)) == CHOICES
