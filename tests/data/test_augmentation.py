"""Random crops, flips and cutouts of whole batches."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nasx.config.describe import yaml_text
from nasx.data.augmentation import Augmentation, augment
from nasx.errors import SettingError

NO_AUGMENTATION = Augmentation(crop_padding=0, horizontal_flip=False, cutout=0)

shapes = st.tuples(st.integers(1, 5), st.integers(1, 3), st.integers(4, 16), st.integers(4, 16))
seeds = st.integers(0, 1000)
augmentations = st.builds(
    Augmentation, crop_padding=st.floats(0, 0.5), horizontal_flip=st.booleans(), cutout=st.floats(0, 1)
)


def only(**chosen) -> Augmentation:
    return Augmentation(**({"crop_padding": 0, "cutout": 0} | chosen))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images_of(shape: tuple[int, ...]) -> torch.Tensor:
    """Return images without blank pixels; all pixels of an image differ."""
    return torch.arange(1, 1 + torch.Size(shape).numel(), dtype=torch.float32).reshape(shape)


@given(shape=shapes)
def test_without_augmentation_images_stay_as_they_are(shape):
    images = images_of(shape)
    assert augment(images, NO_AUGMENTATION, generator()) is images


@given(shape=shapes, augmentation=augmentations, seed=seeds)
@settings(deadline=None)
def test_the_same_generator_draws_the_same_images_of_the_same_form(shape, augmentation, seed):
    images = images_of(shape)
    before = images.clone()
    first = augment(images, augmentation, generator(seed))
    assert torch.equal(first, augment(images, augmentation, generator(seed)))
    assert first.shape == images.shape
    assert first.dtype == images.dtype
    assert torch.equal(images, before)


def test_the_global_generator_is_not_touched():
    state = torch.get_rng_state()
    augment(images_of((4, 1, 8, 8)), Augmentation(horizontal_flip=True), generator())
    assert torch.equal(torch.get_rng_state(), state)


@given(shape=shapes, seed=seeds)
@settings(deadline=None)
def test_flipping_twice_by_the_same_draws_is_the_identity(shape, seed):
    images = images_of(shape)
    once = augment(images, only(horizontal_flip=True), generator(seed))
    assert torch.equal(augment(once, only(horizontal_flip=True), generator(seed)), images)


def test_about_half_of_the_images_are_mirrored_and_the_others_left():
    images = images_of((1000, 1, 2, 4))
    flipped = augment(images, only(horizontal_flip=True), generator())
    mirrored = (flipped == images.flip(3)).flatten(1).all(1)
    assert (mirrored | (flipped == images).flatten(1).all(1)).all()
    assert 400 < mirrored.sum() < 600


@given(shape=shapes, padding=st.floats(0.1, 0.5), seed=seeds)
@settings(deadline=None)
def test_a_crop_is_a_window_of_the_padded_image(shape, padding, seed):
    images = images_of(shape)
    height, width = shape[2:]
    margin = round(padding * height)
    padded = torch.nn.functional.pad(images, (margin,) * 4)
    for image, cropped in zip(padded, augment(images, only(crop_padding=padding), generator(seed)), strict=True):
        windows = image.unfold(1, height, 1).unfold(2, width, 1)
        assert (windows == cropped[:, None, None]).all(0).flatten(2).all(2).any()


def test_crops_take_every_offset():
    images = images_of((2000, 1, 8, 8))
    cropped = augment(images, only(crop_padding=0.125), generator())
    step = cropped[:, 0, 4, 4] - images[:, 0, 4, 4]  # moving by a row changes the value by 8, by a column by 1
    assert set(step.tolist()) == {8 * row + column for row in (-1, 0, 1) for column in (-1, 0, 1)}


@given(shape=shapes, share=st.floats(0.05, 1), seed=seeds)
@settings(deadline=None)
def test_a_cutout_blanks_a_square_clipped_at_the_border_in_all_channels(shape, share, seed):
    images = images_of(shape)
    height, width = shape[2:]
    side = round(share * height)
    cut = augment(images, only(cutout=share), generator(seed))
    blank = cut == 0
    assert torch.equal(cut[~blank], images[~blank])
    assert torch.equal(blank, blank[:, :1].expand_as(blank))
    rows, columns = blank[:, 0].any(2).sum(1), blank[:, 0].any(1).sum(1)
    assert torch.equal(blank[:, 0].sum((1, 2)), rows * columns)  # a rectangle
    assert (rows >= min((side + 1) // 2, height)).all()  # at least half of it is inside
    assert (columns >= min((side + 1) // 2, width)).all()
    assert (rows <= side).all()
    assert (columns <= side).all()


def test_a_cutout_away_from_the_border_has_its_full_area():
    cut = augment(images_of((500, 1, 16, 16)), only(cutout=0.25), generator())
    areas = (cut == 0).sum((1, 2, 3))
    assert areas.max() == 16
    assert set(areas.tolist()) == {rows * columns for rows in (2, 3, 4) for columns in (2, 3, 4)}


def test_bytes_are_augmented_like_floats_with_black_for_blank():
    images = torch.randint(1, 256, (50, 3, 8, 8), dtype=torch.uint8, generator=generator())
    augmentation = Augmentation(horizontal_flip=True)
    as_bytes = augment(images, augmentation, generator(1))
    assert as_bytes.dtype == torch.uint8
    assert torch.equal(as_bytes.float(), augment(images.float(), augmentation, generator(1)))


def test_channels_last_images_are_augmented_alike():
    images = images_of((5, 3, 8, 8))
    last = augment(images.to(memory_format=torch.channels_last), Augmentation(horizontal_flip=True), generator())
    assert torch.equal(last, augment(images, Augmentation(horizontal_flip=True), generator()))


@pytest.mark.parametrize("name", ["crop_padding", "cutout"])
@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_a_share_out_of_range_is_reported(name, share):
    with pytest.raises(SettingError, match=rf"^{name} must be at least 0 and at most 1, got {yaml_text(share)}$"):
        Augmentation(**{name: share})


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_augmentation_never_waits_for_the_gpu():
    images = torch.rand(64, 3, 32, 32, device="cuda")
    own = torch.Generator("cuda").manual_seed(0)
    torch.cuda.set_sync_debug_mode("error")
    try:
        augmented = augment(images, Augmentation(horizontal_flip=True), own)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert augmented.is_cuda
