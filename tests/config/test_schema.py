import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from nasx.config.compose import compose
from nasx.config.schema import read_config
from nasx.trial import Bounds


@pytest.fixture(scope="module")
def lines() -> dict[str, Any]:
    return compose("lines")


def changed(config: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:
    """Return a copy of the config with a new value for one key."""
    copied = copy.deepcopy(dict(config))
    *parents, name = key.split(".")
    node = copied
    for parent in parents:
        node = node[parent]
    node[name] = value
    return copied


def test_read_returns_the_root_as_a_typed_record(lines: dict[str, Any]) -> None:
    experiment = read_config(changed(lines, "constraints", {"error": {"max": 0.5}}))

    assert experiment.runs_dir == Path("runs")
    assert experiment.objectives == ("error", "introspectability")
    assert experiment.constraints == {"error": Bounds(max=0.5)}
    assert experiment.split.validation_fraction == 0.2
    assert experiment.search.time_limit is None
    assert set(experiment.also_scored) == {"activations"}


def test_evaluations_and_early_stopping_are_the_searchs_and_no_setting_of_the_algorithm(lines: dict[str, Any]) -> None:
    experiment = read_config(lines)

    assert experiment.evaluations == lines["algorithm"]["evaluations"]
    assert experiment.early_stopping is True
    assert not {"evaluations", "early_stopping"} & experiment.algorithm.keys()


def test_early_stopping_is_off_by_default(lines: dict[str, Any]) -> None:
    algorithm = {name: value for name, value in lines["algorithm"].items() if name != "early_stopping"}

    assert read_config({**lines, "algorithm": algorithm}).early_stopping is False
