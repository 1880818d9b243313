"""Rules that derive settings: sensible for the folders that people have."""

import pytest

from nasx.data.survey import Survey
from nasx.planning import rules
from nasx.planning.estimate import Estimate


def survey(n: int, height: int, width: int, *, gray: bool = False) -> Survey:
    return Survey(n_images=n, n_looked_at=min(n, 2000), height=height, width=width, is_gray=gray)


@pytest.mark.parametrize(
    ("found", "hours", "size"),
    [
        (survey(100, 480, 640), 1, 64),
        (survey(968, 3000, 4000), 1, 64),
        (survey(20_000, 512, 512), 1, 64),
        (survey(1_000, 40, 31), 1, 32),
        (survey(1_000, 28, 28), 1, 32),
        (survey(1_000, 6, 6), 1, 8),
        (survey(50_000, 512, 512), 1, 32),
        (survey(20_000, 512, 512), 0.05, 16),
        (survey(20_000, 512, 512), None, 64),
        (survey(1_000, 0, 0), 1, 32),
    ],
)
def test_the_image_size_is_near_the_median_picture_and_affordable(
    found: Survey, hours: float | None, size: int
) -> None:
    assert rules.choose_image_size(found, hours).value == size


def test_the_reason_names_the_median_picture_and_the_reduction() -> None:
    assert rules.choose_image_size(survey(1_000, 40, 31), 1).reason == "the median picture is 31 x 40"
    assert "reduced for 50,000 images in 1 h" in rules.choose_image_size(survey(50_000, 512, 512), 1).reason


def test_pictures_are_read_in_gray_only_if_all_are_gray() -> None:
    assert rules.choose_grayscale(survey(100, 32, 32, gray=True)) == rules.Choice(True, "all pictures are gray")
    assert not rules.choose_grayscale(survey(100, 32, 32)).value
    assert "of 2,000 looked at" in rules.choose_grayscale(survey(9_000, 32, 32, gray=True)).reason


@pytest.mark.parametrize(
    ("n_train", "size", "steps"), [(64, 8, 8), (620, 16, 39), (640, 32, 20), (872, 32, 28), (12_800, 128, 100)]
)
def test_a_batch_leaves_20_steps_per_epoch_if_there_are_enough_images(n_train: int, size: int, steps: int) -> None:
    choice = rules.choose_batch_size(n_train)

    assert choice.value == size
    assert choice.reason.startswith(f"{steps} steps per epoch of {n_train:,} images")
    assert steps >= rules.STEPS_PER_EPOCH or "smallest batch" in choice.reason


@pytest.mark.parametrize(("n_train", "size"), [(20, 8), (100, 16), (256, 64), (5_000, 64)])
def test_heads_on_features_learn_from_larger_batches(n_train: int, size: int) -> None:
    assert rules.choose_batch_size(n_train, has_backbone=True).value == size


@pytest.mark.parametrize(
    ("n_train", "batch", "epochs"), [(64, 8, 30), (640, 32, 30), (3_200, 128, 24), (12_800, 128, 8)]
)
def test_epochs_give_about_600_steps_within_bounds(n_train: int, batch: int, epochs: int) -> None:
    assert rules.choose_epochs(n_train, batch).value == epochs


@pytest.mark.parametrize(
    ("n_train", "epochs", "hours", "network"),
    [(64, 30, 1, (16, 3)), (640, 30, 1, (16, 3)), (640, 30, 0.4, (16, 1)), (640, 30, 0.05, (8, 1))],
)
def test_networks_are_as_large_as_the_budget_allows(
    n_train: int, epochs: int, hours: float, network: tuple[int, int]
) -> None:
    channels, cells = rules.choose_network(n_train, epochs, hours)

    assert (channels.value, cells.value) == network


def test_a_short_budget_is_named_as_the_reason_for_the_smallest_networks() -> None:
    assert "0.05 h are short for 12,800 images" in rules.choose_network(12_800, 8, 0.05)[0].reason
    assert rules.choose_network(12_800, 8, None)[0].reason == "the largest networks"


def test_evaluations_fill_the_time_but_not_with_lucky_networks() -> None:
    assert rules.choose_evaluations(96, 155, "1 h") == rules.Choice(96, "1 h")
    few = rules.choose_evaluations(500, 16, "1 h")
    assert few.value == 32
    assert "16 validation images" in few.reason


def test_a_population_is_a_sixth_of_the_evaluations_within_bounds() -> None:
    assert [rules.choose_population_size(n).value for n in (5, 60, 120, 5000)] == [8, 10, 20, 32]


def test_an_estimate_names_time_trainings_workers_and_start() -> None:
    found = Estimate(trainings=96, per_training=58, workers=2, start=9)

    assert str(found) == "about 47 minutes: 96 trainings of 58 s on 2 workers; start 9 s"
    assert found.seconds == 48 * 58 + 9


def test_a_limit_of_time_cuts_the_estimate() -> None:
    found = Estimate(trainings=1000, per_training=60, workers=2, start=10, limit=3600)

    assert found.seconds == 3610
    assert "the limit of time ends it after about 120 trainings" in str(found)


def test_fine_tuning_is_part_of_the_estimate() -> None:
    found = Estimate(trainings=2, per_training=10, workers=2, start=5, finetuning=100)

    assert found.seconds == 115
    assert "fine-tuning 100 s" in str(found)
