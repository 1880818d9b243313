"""Messages for errors in configs and overrides: one line that names the cause and a remedy."""

from pathlib import Path

import pytest

from nasx.config.compose import compose
from nasx.errors import ConfigError

BODY = """
  - dataset: lines
  - space: nb201
  - training: lines
  - scorer: activations
  - algorithm: nsga2
  - execution: serial
  - _self_
"""


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("foo", r"^the override 'foo' is not of the form key=value\.$"),
        ("=3", r"^the override '=3' is not of the form key=value\.$"),
        ("a b=3", r"^the override 'a b=3' is not of the form key=value\.$"),
        ("seed=1,2", r"^the override 'seed=1,2' has several values, but one is expected\."),
        ("hydra.job.name=x", r"^the override 'hydra\.job\.name=x' is not a setting of nasx"),
        (
            "dataset.nois=1",
            r"^unknown key dataset\.nois in the override 'dataset\.nois=1'\. Did you mean dataset\.noise\?$",
        ),
        ("dataset.zzz=1", r"Known: dataset\.augmentation, .* If its class accepts it, write \+dataset\.zzz=1\.$"),
        (
            "dataset.augmentation.flip=1",
            r"^unknown key dataset\.augmentation\.flip .* Did you mean dataset\.augmentation\.h",
        ),
        ("epochs=1", r"^unknown key epochs in the override 'epochs=1'\. Did you mean training\.epochs\?$"),
        ("scoer=shap", r"^unknown key scoer in the override 'scoer=shap'\. Did you mean scorer\?$"),
        ("seed.x=1", r"^unknown key seed\.x in the override 'seed\.x=1'\. seed has no settings\.$"),
        ("+sede=1", r"^unknown key sede\. Did you mean seed\?$"),
        ("+split.fraction=1", r"^unknown key split\.fraction\. Did you mean split\.validation_fraction\?$"),
        (
            "scorer=shp",
            r"^there is no scorer 'shp', in the override 'scorer=shp'\. Did you mean shap\? Known: activations, ",
        ),
        ("scorer=foo", r"^there is no scorer 'foo', in the override 'scorer=foo'\. Known: activations, .*shap"),
        ("scorer=null", r"Config group override must be a string or a list\. Got NoneType\.$"),
        ("+scorer=shap", r"lines\.yaml: scorer appears more than once in the final defaults list\.$"),
        ("~scorer", r"^scorer is missing: choose one in the config's defaults list, as `- scorer: NAME`\.$"),
        ("~seed", r"^seed is missing: .*needs an integer, at least 0\.$"),
        (
            "~split.validation_fraction",
            r"^split\.validation_fraction is missing: .*Split needs a number, more than 0 and less than 1\.$",
        ),
        ("~split.train_images", r"Could not delete from config\. 'split\.train_images' does not exist\.$"),
        ("seed=a", r"^seed must be an integer, got 'a'\.$"),
        ("constraints.error.mx=1", r"^unknown key constraints\.error\.mx\. Did you mean constraints\.error\.max\?$"),
        (
            "~algorithm.evaluations",
            r"^algorithm\.evaluations is missing: the number of candidates to evaluate, e\.g\. 64\.$",
        ),
        ("seed=???", r"^seed has no value\. Set it: seed=VALUE\.$"),
        ("seed=${sed}", r"^seed: Interpolation key 'sed' not found\.$"),
        ("name=${oc.env:NASX_NO_SUCH_VARIABLE}", r"^name: .*Environment variable 'NASX_NO_SUCH_VARIABLE' not found"),
        ("+also_scored.x=3", r"^also_scored\.x must be a component with its settings, got 3\.$"),
    ],
)
def test_a_wrong_override_is_reported_in_one_line(elsewhere: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        compose("lines", [override])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"^dataset is missing: choose one in the config's defaults list"),
        ("seed: [1\n", r"wrong\.yaml, line 2: "),
        ("seed: 1\nseed: 2\n", r"wrong\.yaml, line 2: found duplicate key seed\.$"),
        ("a:\n\tb: 1\n", r"wrong\.yaml, line 2: found character '\\t' that cannot start any token\.$"),
        ("a: b: c\n", r"wrong\.yaml, line 1: mapping values are not allowed here\.$"),
        ("- a\n- b\n", r"wrong\.yaml is not a config: it must be a mapping of keys to values\.$"),
        ("just words\n", r"^dataset is missing: "),
        ("a: \x01\n", r"wrong\.yaml cannot be read: "),
        ("defaults: digits\n", r"wrong\.yaml cannot be composed: .*defaults must be a list"),
        ("defaults:\n  digits: 1\n", r"wrong\.yaml cannot be composed: .*defaults must be a list"),
        ("defaults: [3]\n", r"wrong\.yaml cannot be composed: Unsupported type in defaults"),
        ("defaults: [bse]\n", r"wrong\.yaml names 'bse', which does not exist\."),
        ("defaults: [base, datset: lines]\n", r"names 'datset/lines', which does not exist\. Did you mean dataset\?$"),
        ("defaults: [base, dataset: lnes]\n", r"^there is no dataset 'lnes', in .*wrong\.yaml\. Did you mean lines\?"),
        ("defaults: [base, override dataset: lines]\n", r"wrong\.yaml: .*Could not override 'dataset'"),
        ("defaults:\n  - base" + BODY + "seed:\n  x: 1\n", r"^seed must be an integer, got \{\"x\": 1\}\.$"),
        ("defaults:\n  - base" + BODY + "sede: 1\n", r"^unknown key sede\. Did you mean seed\?$"),
        ("defaults:\n  - base" + BODY + "dataset: 3\n", r"wrong\.yaml|^dataset must be"),
        (
            "defaults:\n  - base" + BODY + "dataset:\n  root: ${nowhere}\n",
            r"^dataset\.root: Interpolation key 'nowhere' not",
        ),
        ("defaults:\n  - base" + BODY + "dataset:\n  root: ${oops\n", r"wrong\.yaml|dataset\.root"),
        (
            "defaults:\n  - base" + BODY + "dataset:\n  root: ???\n",
            r"^dataset\.root has no value\. Set it: dataset",
        ),
    ],
)
def test_a_wrong_file_is_reported_in_one_line(elsewhere: Path, text: str, message: str) -> None:
    (elsewhere / "wrong.yaml").write_text(text)

    with pytest.raises(ConfigError, match=message) as caught:
        compose("wrong.yaml")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_text_is_reported(elsewhere: Path) -> None:
    (elsewhere / "wrong.yaml").write_bytes(b"\xff\xfe\x00seed")

    with pytest.raises(ConfigError, match=r"wrong\.yaml"):
        compose("wrong.yaml")


def test_a_mistake_in_a_users_own_choice_names_its_file_and_line(elsewhere: Path) -> None:
    (elsewhere / "configs" / "scorer").mkdir(parents=True)
    (elsewhere / "configs" / "scorer" / "mine.yaml").write_text("_target_: a.B\nsamples: [1\n")

    with pytest.raises(ConfigError, match=r"scorer/mine\.yaml, line 3: "):
        compose("lines", ["scorer=mine"])


def test_the_original_error_is_kept_as_the_cause(elsewhere: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        compose("lines", ["scorer=foo"])

    assert type(caught.value.__cause__).__name__ == "MissingConfigException"
