"""Features by ONNX Runtime equal those of torch for any batch, cuts and threads; torch is used if there is no graph."""

from __future__ import annotations

import sys
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from nasx.backbones import extraction, onnx_stages
from nasx.backbones.onnx_stages import TOLERANCE, NoGraphError, maps_at, open_stages, uses_onnx
from tests.factories.backbones import CUTS, FLIPS, Cache, TinySpace, maps, pictures, tiny_backbone

SHAPE = (4, 3, 16, 16)


@pytest.fixture(autouse=True)
def for_tiny_backbones(monkeypatch) -> None:
    monkeypatch.setattr(onnx_stages, "MIN_WEIGHTS", 0)


@pytest.fixture
def cache(tmp_path) -> Cache:
    return Cache(tmp_path / "features")


def without_onnx(monkeypatch) -> None:
    monkeypatch.setattr(onnx_stages, "PACKAGES", ("onnx", "a_package_that_is_not_installed"))


class Odd(nn.Module):
    """Operation that no graph can contain: its result depends on the numbers."""

    def forward(self, x):
        return x + 1 if float(x.sum()) > 0 else x - 1


def odd_space() -> TinySpace:
    backbone = tiny_backbone()
    backbone.stages[1].append(Odd())
    return TinySpace(backbone=backbone)


def test_maps_are_those_of_torch(cache, monkeypatch):
    images = pictures(10)
    by_onnx = {cut: maps(found) for cut, found in cache.source().prepare(images, CUTS).items()}
    assert cache.notices == []
    without_onnx(monkeypatch)
    by_torch = cache.source().prepare(pictures(10), CUTS)
    assert cache.computed == 20  # each has a store of its own
    for cut, found in by_onnx.items():
        expected = maps(by_torch[cut])
        assert np.allclose(found, expected, rtol=2**-10, atol=TOLERANCE * np.abs(expected).max()), cut


def test_maps_do_not_depend_on_the_batch_the_cuts_or_the_threads(cache, tmp_path):
    together = maps(cache.source().prepare(pictures(20), CUTS)["second"])
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        other = Cache(tmp_path / "other")
        other.source().at("second", pictures(3))
        assert np.array_equal(maps(other.source().at("second", pictures(20))), together)
    finally:
        torch.set_num_threads(before)


def test_the_graph_is_written_once(cache, monkeypatch):
    cache.source().at("third", pictures(4))
    monkeypatch.setattr(onnx_stages, "onnx_bytes", lambda *args: pytest.fail("written again"))
    assert cache.newly_computed("third", pictures(8)) == 4


@pytest.mark.parametrize("damage", [b"", b"no graph"], ids=["empty", "other content"])
def test_a_damaged_graph_is_written_again(cache, damage):
    before = maps(cache.source().at("third", pictures(8)))
    (file,) = cache.folder.glob("*/*.onnx")
    graph = file.read_bytes()
    file.write_bytes(damage)
    assert np.array_equal(maps(cache.source().at("third", pictures(9)))[:8], before)
    assert file.read_bytes() == graph
    assert cache.notices == []


def test_a_graph_that_computes_something_else_is_not_used(tmp_path):
    stages = tiny_backbone(seed=1).stages
    open_stages(stages, SHAPE, CUTS, tmp_path)
    (other,) = tmp_path.glob("*.onnx")
    wrong = other.read_bytes()
    own = tiny_backbone(seed=2).stages
    found = open_stages(own, SHAPE, CUTS, tmp_path)
    images = torch.randn(SHAPE)
    for cut, expected in maps_at(own, images, CUTS).items():
        assert torch.allclose(found(images)[cut], expected, atol=1e-5)
    assert other.read_bytes() != wrong


def test_a_network_without_a_graph_is_computed_by_torch_and_reported_once(cache):
    source = cache.source(odd_space())
    assert maps(source.at("second", pictures(4))).shape == (4, 6, 4, 4)
    (line,) = cache.notices
    assert line.startswith("tiny has no ONNX graph (")
    assert line.endswith("torch computes its features, more slowly.")
    assert cache.newly_computed("second", pictures(6), source=source) == 2
    assert cache.notices == [line]


def test_stages_may_have_names_of_operations_and_inputs(tmp_path):
    first, second, _ = tiny_backbone().stages
    stages = nn.Sequential(OrderedDict(relu=nn.Sequential(first, nn.ReLU()), images=second))
    found = open_stages(stages, SHAPE, ("relu", "images"), tmp_path)(images := torch.randn(SHAPE))
    for cut, expected in maps_at(stages, images, ("relu", "images")).items():
        assert torch.allclose(found[cut], expected, atol=1e-5)


def test_a_graph_of_more_than_2_gb_is_not_written(tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_stages, "MAX_BYTES", 1000)
    monkeypatch.setattr(onnx_stages, "onnx_bytes", lambda *args: pytest.fail("written"))
    with pytest.raises(NoGraphError, match=r"^it would have more than 2 GB$"):
        open_stages(tiny_backbone().stages, SHAPE, CUTS, tmp_path)


def test_a_package_that_does_not_work_is_reported(cache, monkeypatch):
    class Broken:
        def find_spec(self, name, path=None, target=None):
            if name == "onnxruntime":
                raise ImportError("numpy.core.multiarray failed to import")

    monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    monkeypatch.setattr(onnx_stages, "is_installed", lambda: True)
    assert cache.newly_computed("second", pictures(4)) == 4
    (line,) = cache.notices
    assert line.startswith("tiny has no ONNX graph (ImportError: numpy.core.multiarray failed to import): torch")


def test_a_graph_whose_maps_differ_is_not_used(cache, monkeypatch):
    real = onnx_stages._compare
    monkeypatch.setattr(
        onnx_stages, "_compare", lambda found, expected: real({k: 1.01 * v for k, v in found.items()}, expected)
    )
    cache.source().at("third", pictures(4))
    assert "differ by 0.01 of the largest number" in cache.notices[0]
    assert not list(cache.folder.glob("*/*.onnx"))


def test_a_directory_that_cannot_be_written_needs_no_file(tmp_path):
    (tmp_path / "file").touch()
    found = open_stages(tiny_backbone().stages, SHAPE, CUTS, tmp_path / "file" / "store")
    assert found(torch.randn(SHAPE)).keys() == set(CUTS)


def test_augmented_views_are_the_same_as_by_torch(cache, monkeypatch):
    by_onnx = cache.source().at("first", pictures(6), views=3, augmentation=FLIPS)
    without_onnx(monkeypatch)
    by_torch = cache.source().at("first", pictures(6), views=3, augmentation=FLIPS)
    assert cache.computed == 36
    for view in range(3):
        assert np.allclose(maps(by_onnx, view), maps(by_torch, view), rtol=2**-9, atol=1e-3)


def test_gpus_and_small_backbones_use_torch(monkeypatch):
    assert uses_onnx(tiny_backbone(), "cpu")
    assert not uses_onnx(tiny_backbone(), "cuda")
    monkeypatch.setattr(onnx_stages, "MIN_WEIGHTS", 10_000)
    assert not uses_onnx(tiny_backbone(), "cpu")


def test_time_per_image_is_measured_by_the_same_way(cache, monkeypatch):
    opened = []
    monkeypatch.setattr(extraction, "open_stages", lambda *a: opened.append(a) or open_stages(*a))
    assert cache.source().seconds_per_image(pictures(4), CUTS) > 0
    assert len(opened) == 1
