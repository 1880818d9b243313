"""Samples are stratified, disjoint, uniform, and depend only on the seed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Generator

from nasx.introspection.shap import draw_paths, split_sample, stratified_sample


def generator(seed: int = 0) -> Generator:
    return torch.Generator().manual_seed(seed)


def test_each_class_is_drawn_equally_often_alternating():
    labels = torch.tensor([0] * 50 + [1] * 10 + [3] * 20)

    chosen = labels[stratified_sample(labels, 5, generator=generator())]

    assert chosen.tolist() == [0, 1, 3] * 5


def test_all_samples_of_a_small_class_are_drawn():
    labels = torch.tensor([0, 0, 0, 1, 0])

    chosen = stratified_sample(labels, 3, generator=generator())

    assert sorted(labels[chosen].tolist()) == [0, 0, 0, 1]
    assert len(set(chosen.tolist())) == 4


def test_the_sample_depends_only_on_the_seed():
    labels = torch.arange(100) % 7

    draws = [stratified_sample(labels, 4, generator=generator(seed)).tolist() for seed in (1, 1, 2)]

    assert draws[0] == draws[1] != draws[2]


def test_explained_and_background_images_are_disjoint_if_there_are_enough():
    labels = torch.arange(60) % 3

    explained, background = split_sample(labels, n_per_class=5, n_background=9, generator=generator())

    assert not set(explained.tolist()) & set(background.tolist())
    assert torch.bincount(labels[explained]).tolist() == [5, 5, 5]
    assert torch.bincount(labels[background]).tolist() == [3, 3, 3]


def test_a_small_background_is_filled_up_with_explained_images():
    labels = torch.arange(12) % 3

    explained, background = split_sample(labels, n_per_class=3, n_background=8, generator=generator())

    assert len(explained) == 9
    assert len(set(background.tolist())) == 8


@pytest.mark.parametrize(("draws", "background", "met"), [(16, 8, {2}), (8, 8, {1}), (4, 8, {0, 1}), (12, 8, {1, 2})])
def test_every_sample_uses_the_background_images_equally_often(draws, background, met):
    paths = draw_paths(5, draws, background, generator=generator())

    for indices in paths.background:
        assert set(torch.bincount(indices, minlength=background).tolist()) == met


def test_a_sample_has_one_position_in_every_interval():
    positions = draw_paths(6, 10, 3, generator=generator()).position

    assert torch.equal((positions * 10).floor().sort(dim=1).values, torch.arange(10.0).expand(6, 10))


def test_single_draws_are_uniform():
    paths = draw_paths(4000, 4, 3, generator=generator())

    counts = np.histogram2d(paths.background.flatten(), paths.position.flatten(), bins=(3, 4))[0]

    np.testing.assert_allclose(counts, 16_000 / 12, rtol=0.15)
    assert paths.position.min() >= 0
    assert paths.position.max() < 1
