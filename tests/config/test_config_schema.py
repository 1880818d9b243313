import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from nasx.config.compose import compose
from nasx.config.schema import read_config
from nasx.errors import ConfigError
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


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("seed", -1, r"^seed must be at least 0, got -1\.$"),
        ("name", "a/b", r"^name must be the name of a folder, without a path, got 'a/b'\.$"),
        ("name", "..", r"^name must be the name of a folder, without a path, got '\.\.'\.$"),
        ("name", "", r"^name must be the name of a folder, without a path, got ''\.$"),
        ("name", 3, r"^name must be text, got 3\.$"),
        ("runs_dir", None, r"^runs_dir must be a path, got null\.$"),
        ("objectives", [], r"^objectives must name at least one of error, macro_error, introspectability"),
        ("objectives", "error", r"^objectives must be a list of one or more of error, macro_error, .*, got 'error'\.$"),
        ("objectives", ["error", "error"], r"^objectives must all be different, got error, error\.$"),
        ("objectives", ["eror"], r"^objectives must name known metrics, got 'eror'\. Did you mean error\?$"),
        (
            "constraints",
            {"eror": {"max": 1}},
            r"^constraints must name known metrics, got 'eror'\. Did you mean error\?$",
        ),
        ("constraints", {"error": 1}, r"^constraints\.error must be a mapping with the keys min, max, got 1\.$"),
        ("constraints", {"error": {}}, r"^constraints\.error\.min or max is required\.$"),
        (
            "constraints",
            {"error": {"min": 1, "max": 0.5}},
            r"^constraints\.error\.min must be less than max, got 1 and 0\.5",
        ),
        (
            "constraints",
            {"error": {"min": 0, "max": 50}},
            r"^constraints\.error\.max must be in \[0, 1\], .* got 50\.$",
        ),
        (
            "split",
            3,
            r"^split must be a mapping with the keys validation_fraction, train_images, validation_images, got 3",
        ),
        ("split.fraction", 0.2, r"^unknown key split\.fraction\. Did you mean split\.validation_fraction\?$"),
        ("split.validation_fraction", 1, r"^split\.validation_fraction must be more than 0 and less than 1, got 1\.$"),
        ("split.validation_fraction", "20%", r"^split\.validation_fraction must be a number, got '20%'\.$"),
        ("split.train_images", 0, r"^split\.train_images must be at least 1, got 0\.$"),
        ("search.time_limit", 0, r"^search\.time_limit must be more than 0, got 0\.$"),
        ("search.stall_limit", -1, r"^search\.stall_limit must be more than 0, got -1\.$"),
        ("search.max_gpu_hours", 0, r"^search\.max_gpu_hours must be more than 0, got 0\.$"),
        ("algorithm.early_stopping", "yes", r"^algorithm\.early_stopping must be true or false, got 'yes'\.$"),
        ("early_stopping", True, r"^unknown key early_stopping\. Did you mean algorithm\.early_stopping\?$"),
        ("search.retries", -1, r"^search\.retries must be at least 0, got -1\.$"),
        ("search.max_failure_share", 0, r"^search\.max_failure_share must be more than 0 and at most 1, got 0\.$"),
        ("algorithm.evaluations", 0, r"^algorithm\.evaluations must be at least 1, got 0\.$"),
        ("algorithm.evaluations", "many", r"^algorithm\.evaluations must be an integer, got 'many'\.$"),
        ("evaluations", 3, r"^unknown key evaluations\. Did you mean algorithm\.evaluations\?$"),
        ("also_scored", {"shap": 3}, r"^also_scored\.shap must be a component with its settings, got 3\.$"),
        ("also_scored", {"shap": None}, r"^also_scored\.shap must be a component with its settings, got null\.$"),
        ("objectives", [3], r"^objectives must be a list of one or more of .*, got \[3\]\.$"),
        ("scorer", 3, r"^scorer must be a component with its settings, got 3\.$"),
        ("space", None, r"^space is missing: choose one in the config's defaults list, as `- space: NAME`\.$"),
    ],
)
def test_a_wrong_value_is_reported_with_its_full_key(lines: dict[str, Any], key: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        read_config(changed(lines, key, value))
    assert "\n" not in str(caught.value)
