"""Rules that derive settings from the images and the budget. Each returns a value and its reason in words.

All rules but the last three depend only on the data and `search.max_hours`: they choose the same on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from nasx.data.decoding import Interpolation
from nasx.data.survey import Survey

SIZES: Final = (8, 16, 24, 32, 64)  # pixels per side. The stem reduces larger images to 32
BACKBONE_SIZES: Final = (64, 96, 128, 160, 192, 224)  # pixels per side: multiples of 32, by which backbones reduce
# MACs per second of a backbone that computes features on two usual cores, between the rates of ONNX Runtime and torch:
# an image of 128 pixels, 0.12 billion MACs of EfficientNet-Lite0, was measured with 1.2 and 5.3 ms
MACS_PER_SECOND: Final = 37e9
FEATURE_SHARE: Final = 1 / 3  # of the budget, at most, for the features
SMALL: Final = 16  # pixels per side that are always affordable
ENLARGEMENT: Final = 1.25  # at most, of the median picture
PIXELS_PER_HOUR: Final = 1e8  # of all training images, so that augmentation takes a small part of a training
STEPS_PER_EPOCH: Final = 20  # at least
BATCH_SIZES: Final = (8, 16, 32, 64, 128)
# A hint from features of 256 photos of 10 classes, four heads, 64 validation images: mean error 24.6 % with batches of
# 64 and 30 epochs, 25.8 % with 16 and 30, 27.3 % with 8 and 19; larger batches are faster, too
HEAD_STEPS_PER_EPOCH: Final = 4
HEAD_BATCH_SIZES: Final = (8, 16, 32, 64)
STEPS: Final = 600  # of a training: accuracy hardly grows with more, until the training is much longer
# Of a head. Three heads on features of 2,000 pictures of CIFAR-10 at 128 pixels, three seeds each: mean validation
# error 14.6 % with 8 epochs of 32 steps, 14.5 % with 13, 14.5 % with 19
HEAD_STEPS: Final = 320
EPOCHS: Final = (8, 30)  # fewest and most
# (channels, cells) -> seconds per 1,000 training images and epoch on one core, largest network first.
# Measured for the median of 32 random cells, images of 32 x 32 pixels
NETWORKS: Final = {(16, 3): 2.6, (16, 1): 1.3, (8, 1): 0.6}
NOMINAL_WORKERS: Final = 2
WANTED: Final = 96  # trainings for which the network must leave time
FEWEST, MOST = 16, 1024  # evaluations
REPLICATES_SHARE: Final = 1 / 3  # of the trainings, for further seeds of networks that are trained in seconds
MOST_REPLICATES: Final = 4  # means of five trainings hardly change with more
MARGIN: Final = 0.9  # share of the time that is planned


@dataclass(frozen=True)
class Choice:
    """Value of a setting and why it was chosen."""

    value: Any
    reason: str  # e.g. "27 steps per epoch of 872 images"


def choose_image_size(survey: Survey, hours: float | None) -> Choice:
    """Return the image size: near the short side of the median picture, and affordable."""
    side = survey.side
    if side == 0:
        return Choice(32, "the sizes of the pictures are unknown")
    fitting = [size for size in SIZES if size <= ENLARGEMENT * side] or [SIZES[0]]
    most = math.inf if hours is None else PIXELS_PER_HOUR * hours
    affordable = [size for size in fitting if size <= SMALL or size**2 * survey.n_images <= most]
    reason = f"the median picture is {survey.width} x {survey.height}"
    if affordable[-1] < fitting[-1]:
        reason += f", reduced for {survey.n_images:,} images in {hours:g} h"
    return Choice(affordable[-1], reason)


def choose_backbone_size(
    survey: Survey, hours: float | None, n_features: int, pretrained_at: int, macs: Mapping[int, int]
) -> Choice:
    """Return the image size for a backbone: near the short side of the median picture, and affordable.

    Args:
        survey: of the pictures.
        hours: budget of the search; None: no limit.
        n_features: images whose features are computed, with augmented ones.
        pretrained_at: pixels per side of the images of the pretraining.
        macs: of the backbone for one image, by the sizes that it reads, in ascending order.
    """
    if survey.side == 0:
        return Choice(min(macs), "the sizes of the pictures are unknown")
    fitting = [size for size in macs if size <= ENLARGEMENT * survey.side] or [min(macs)]
    seconds = math.inf if hours is None else FEATURE_SHARE * 3600 * hours
    per_mac = n_features / MACS_PER_SECOND
    affordable = [size for size in fitting if per_mac * macs[size] <= seconds] or [fitting[0]]
    reason = f"the median picture is {survey.width} x {survey.height}"
    if affordable[-1] < fitting[-1]:
        reason += f", reduced for the features of {n_features:,} images in {hours:g} h"
    elif affordable[-1] == pretrained_at:
        reason += f", and the backbone was pretrained at {pretrained_at}"
    return Choice(affordable[-1], reason)


def choose_interpolation(backbone: Interpolation | None) -> Choice:
    """Return the interpolation with which pictures are resized.

    Args:
        backbone: interpolation of the backbone's pretraining; None: there is no backbone.
    """
    if backbone is None:
        return Choice("bicubic", "the default")
    return Choice(backbone, "as in the pretraining of the backbone")


def choose_grayscale(survey: Survey) -> Choice:
    """Return whether the images are read with one channel."""
    some = "" if survey.n_looked_at == survey.n_images else f" of {survey.n_looked_at:,} looked at"
    return Choice(survey.is_gray, f"all pictures{some} are gray" if survey.is_gray else "there are pictures in color")


def choose_batch_size(n_train: int, *, has_backbone: bool = False) -> Choice:
    """Return the largest batch with enough steps per epoch; on features, fewer are enough.

    >>> choose_batch_size(872)
    Choice(value=32, reason='28 steps per epoch of 872 images')
    """
    least, sizes = (HEAD_STEPS_PER_EPOCH, HEAD_BATCH_SIZES) if has_backbone else (STEPS_PER_EPOCH, BATCH_SIZES)
    enough = [size for size in sizes if n_train / size >= least] or [sizes[0]]
    steps = math.ceil(n_train / enough[-1])
    few = ", the smallest batch that batch normalization can learn from" if steps < least else ""
    return Choice(enough[-1], f"{steps:,} step{'s' * (steps > 1)} per epoch of {n_train:,} images{few}")


def choose_epochs(n_train: int, batch_size: int, *, has_backbone: bool = False) -> Choice:
    """Return the epochs for about `STEPS` steps, or `HEAD_STEPS` on a backbone.

    >>> choose_epochs(640, 32)
    Choice(value=30, reason='600 steps')

    Args:
        n_train: training images.
        batch_size: images per step.
        has_backbone: whether a head on a backbone is trained.
    """
    steps, wanted = math.ceil(n_train / batch_size), HEAD_STEPS if has_backbone else STEPS
    fewest, most = EPOCHS
    epochs = min(most, max(fewest, math.ceil(wanted / steps)))
    bound = ", the most" if epochs == most and steps * epochs < wanted else ""
    bound = ", the fewest" if epochs == fewest and steps * epochs > wanted else bound
    return Choice(epochs, f"{epochs * steps:,} steps{bound}")


def choose_network(n_train: int, epochs: int, hours: float | None) -> tuple[Choice, Choice]:
    """Return channels and cells: the largest network of which enough fit into the budget on two usual cores."""
    worker_seconds = math.inf if hours is None else 3600 * hours * NOMINAL_WORKERS
    seconds = {network: cost * n_train * epochs / 1000 for network, cost in NETWORKS.items()}
    fitting = [network for network in NETWORKS if WANTED * seconds[network] <= worker_seconds] or [list(NETWORKS)[-1]]
    channels, cells = fitting[0]
    reason = "the largest networks" if fitting[0] == next(iter(NETWORKS)) else "small networks"
    if hours is not None:
        reason += f", so that {hours:g} h are enough for about {WANTED} trainings on two cores"
        if WANTED * seconds[fitting[0]] > worker_seconds:
            reason = f"the smallest networks, because {hours:g} h are short for {n_train:,} images"
    return Choice(channels, reason), Choice(cells, "as for the channels")


def most_evaluations(n_validation: int) -> int:
    """Return the number of evaluations after which a search mostly selects lucky trainings.

    >>> most_evaluations(16), most_evaluations(155), most_evaluations(3200)
    (32, 310, 1024)
    """
    return max(2 * FEWEST, min(MOST, 2 * n_validation))


def choose_evaluations(fitting: int, n_validation: int, time: str) -> Choice:
    """Return the number of evaluations.

    Args:
        fitting: trainings that fit into the time.
        n_validation: validation images, which measure the error of a network.
        time: the time and the machine in words, e.g. "1 h at 58 s per training on 2 workers".
    """
    if (most := most_evaluations(n_validation)) < fitting:
        return Choice(most, f"more would select lucky networks: {n_validation:,} validation images measure their error")
    return Choice(fitting, time)


def choose_replicates(fitting: int | None, evaluations: int | None, near_front: int, *, has_backbone: bool) -> Choice:
    """Return the rounds that train networks on or near the front with further seeds.

    Args:
        fitting: trainings that fit into the time, with those of all rounds; None: there is no limit.
        evaluations: candidates; None: not known yet.
        near_front: trainings of a round.
        has_backbone: whether trainings take seconds, because they are on features.

    >>> choose_replicates(150, None, 20, has_backbone=True)
    Choice(value=2, reason='2 further seeds for networks on or near the front, in a third of the trainings')
    """
    if not has_backbone:
        return Choice(0, "trainings from scratch take long: each is of another network")
    share = "in a third of the trainings"
    if fitting is None:
        rounds, share = MOST_REPLICATES // 2, "since trainings are short"
    elif evaluations is None:
        rounds = int(REPLICATES_SHARE * fitting / near_front)
    else:
        rounds, share = (fitting - evaluations) // near_front, "as the evaluations leave time"
    rounds = max(0, min(MOST_REPLICATES, rounds))
    words = f"{rounds} further seed{'s' * (rounds > 1)} for networks on or near the front, {share}"
    return Choice(rounds, words if rounds else "there is no time for further seeds")


def choose_population_size(evaluations: int) -> Choice:
    """Return the size of the population.

    >>> choose_population_size(96).value, choose_population_size(20).value, choose_population_size(1000).value
    (16, 8, 32)
    """
    size = max(8, min(32, evaluations // 6))
    return Choice(size, f"for {evaluations:,} evaluations")
