import subprocess
import sys
from pathlib import Path

import pytest
from hydra.core.global_hydra import GlobalHydra

from nasx.config.compose import compose, provenance, with_overrides
from nasx.config.plain import read_plain, to_yaml
from nasx.config.schema import read_config
from nasx.errors import ConfigError

OWN = """# nasx search --config own.yaml
defaults:
  - base
  - dataset: lines
  - space: nb201
  - training: lines
  - scorer: pixels
  - algorithm: nsga2
  - execution: serial
  - _self_
seed: 7
runs_dir: ${name}/runs
"""


@pytest.fixture
def own_configs(elsewhere: Path) -> Path:
    """Create a user's directory with an experiment and a scorer; other choices are packaged ones."""
    directory = elsewhere / "my work, (2024)"
    (directory / "scorer").mkdir(parents=True)
    (directory / "own.yaml").write_text(OWN)
    (directory / "scorer" / "pixels.yaml").write_text("_target_: mine.PixelScorer\nsamples: 10\n")
    return directory


def test_overrides_change_values_and_choices(elsewhere: Path) -> None:
    config = compose("lines", ["seed=3", "scorer=activations", "algorithm.evaluations=9", "objectives=[error]"])

    assert (config["seed"], config["objectives"]) == (3, ["error"])
    assert config["scorer"]["_target_"].endswith("ActivationScorer")
    assert read_config(config).evaluations == 9


def test_the_name_is_that_of_the_file_unless_it_is_given(elsewhere: Path) -> None:
    assert compose("lines")["name"] == "lines"
    assert compose("lines", ["name=trial-run"])["name"] == "trial-run"


def test_a_users_file_mixes_own_and_packaged_choices(own_configs: Path) -> None:
    config = compose(own_configs / "own.yaml")

    assert config["scorer"] == {"_target_": "mine.PixelScorer", "samples": 10}
    assert config["dataset"]["_target_"].startswith("nasx.")
    assert (config["name"], config["seed"], config["runs_dir"]) == ("own", 7, "own/runs")


def test_a_users_file_may_start_from_a_packaged_experiment(own_configs: Path) -> None:
    (own_configs / "next.yaml").write_text(
        "defaults: [lines, override scorer: pixels, override algorithm: random, _self_]\n"
        "algorithm: {evaluations: 5, unknown: 1}\n"
    )
    config = compose(own_configs / "next.yaml")

    assert config["scorer"]["_target_"] == "mine.PixelScorer"
    assert config["space"]["channels"] == 4
    # the NSGA-II settings of lines.yaml are dropped; the settings of the file stay, even unknown ones
    assert set(config["algorithm"]) == {"_target_", "evaluations", "early_stopping", "retraining", "lag", "unknown"}


def test_choices_in_the_current_directory_serve_packaged_experiments(elsewhere: Path) -> None:
    (elsewhere / "configs" / "training").mkdir(parents=True)
    (elsewhere / "configs" / "training" / "mine.yaml").write_text("defaults: [paper, _self_]\nepochs: 1\n")

    training = compose("lines", ["training=mine"])["training"]
    assert (training["epochs"], training["momentum"]) == (1, 0.9)


def test_the_configs_own_directory_comes_first(own_configs: Path) -> None:
    (own_configs / "training").mkdir()
    (own_configs / "training" / "lines.yaml").write_text("_target_: nasx.training.recipe.Recipe\n")

    assert compose(own_configs / "own.yaml")["training"] == {"_target_": "nasx.training.recipe.Recipe"}


def test_another_choice_drops_the_settings_of_the_first(elsewhere: Path) -> None:
    config = compose("lines", ["algorithm=random", "algorithm.evaluations=5"])

    assert set(config["algorithm"]) == {"_target_", "evaluations", "early_stopping", "retraining", "lag"}
    assert config["algorithm"]["evaluations"] == 5


def test_settings_added_to_another_choice_stay(elsewhere: Path) -> None:
    config = compose("lines", ["algorithm=random", "+algorithm.unlisted={a: 1}"])

    assert config["algorithm"]["unlisted"] == {"a": 1}


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("name=~~", "~~"),
        ("name=a(b)", "a(b)"),
        ("name='a,b'", "a,b"),
        ("name=Straße 3", "Straße 3"),
        ('name=it"s', 'it"s'),
    ],
)
def test_a_value_may_hold_special_characters(elsewhere: Path, override: str, value: str) -> None:
    assert compose("lines", [override])["name"] == value


def test_constraints_are_added_without_a_plus(elsewhere: Path) -> None:
    config = compose("lines", ["constraints.error.max=0.5", "constraints.parameters={max: 5000}"])

    bounds = read_config(config).constraints
    assert (bounds["error"].max, bounds["error"].min, bounds["parameters"].max) == (0.5, None, 5000)


def test_a_scorer_is_added_or_dropped_by_overrides(elsewhere: Path) -> None:
    assert compose("lines", ["~scorer@also_scored.activations"])["also_scored"] == {}
    assert set(compose("lines", ["+scorer@also_scored.again=shap"])["also_scored"]) == {"activations", "again"}


def test_a_resolved_config_is_read_as_it_was(own_configs: Path, elsewhere: Path) -> None:
    config = {**compose(own_configs / "own.yaml", ["seed=5"]), "provenance": provenance("own.yaml", ["seed=5"])}
    (elsewhere / "config.yaml").write_text(to_yaml(config), encoding="utf-8")

    assert read_plain(Path("config.yaml")) == config
    assert with_overrides(config, ["algorithm.evaluations=99"])["algorithm"]["evaluations"] == 99
    assert read_config(config).provenance["overrides"] == ["seed=5"]


def test_a_choice_replaces_a_component_of_a_run(elsewhere: Path) -> None:
    config = with_overrides(compose("lines"), ["execution=serial", "execution.device=cpu", "logger=tensorboard"])

    assert config["execution"] == {"_target_": "nasx.execution.serial.SerialExecution", "device": "cpu"}
    assert config["logger"] == {"_target_": "nasx.trackers.backends.TensorBoard", "directory": None}


def test_an_unknown_key_is_not_added_to_a_run(elsewhere: Path) -> None:
    with pytest.raises(ConfigError, match=r"unknown key training.epoch .* Did you mean training.epochs\?"):
        with_overrides(compose("lines"), ["training.epoch=3"])


def test_composing_twice_returns_the_same_and_leaves_no_state_in_hydra(elsewhere: Path) -> None:
    assert compose("lines") == compose("lines.yaml")
    with pytest.raises(ConfigError):
        compose("lines", ["seed=x"])
    assert not GlobalHydra.instance().is_initialized()


def test_missing_values_are_allowed_on_request(own_configs: Path) -> None:
    (own_configs / "scorer" / "pixels.yaml").write_text("_target_: mine.PixelScorer\nsamples: ???\n")

    assert compose(own_configs / "own.yaml", allow_missing=True)["scorer"]["samples"] == "???"


def test_importing_loads_neither_torch_nor_ray() -> None:
    code = "import sys, nasx.config; print([m for m in ('torch', 'ray', 'shap', 'deap') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_the_original_error_is_kept_as_the_cause(elsewhere: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        compose("lines", ["scorer=foo"])

    assert type(caught.value.__cause__).__name__ == "MissingConfigException"
