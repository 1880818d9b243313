"""Searches on a backbone: the same results with and without cached features, with workers, and after a kill."""

from __future__ import annotations

from pathlib import Path

import pytest

from nasx.backbones.store_folder import feature_folder, list_stores, remove_store
from nasx.config.compose import compose
from nasx.workflows.search import resume, start
from tests.factories import commands

SEARCH = [
    *("space=backbone", "space.cuts=[stage1,stage2]", "space.projections=[0,8]", "space.hidden=8"),
    *("dataset.train_images=120", "dataset.noise=0", "training.epochs=3", "training.batch_size=16"),
    *("training.views=3", "scorer.samples_per_class=2", "scorer.draws=1", "training.precision=float32"),
    *("algorithm.population_size=4", "algorithm.evaluations=8", "algorithm.lag=4", "execution.device=cpu"),
]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Cache directory of all tests of this module."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


@pytest.fixture(scope="module")
def cold(cache, tmp_path_factory) -> Path:
    """Run of a serial search that has computed its features."""
    run_dir = tmp_path_factory.mktemp("cold") / "run"
    start(compose("lines", SEARCH), run_dir=run_dir)
    return run_dir


def stored() -> dict[str, tuple[int, int]]:
    """Return size and time of all files of cached features."""
    files = (file for store in list_stores(feature_folder(None)) for file in store.directory.glob("*.float16"))
    return {file.name: (file.stat().st_size, file.stat().st_mtime_ns) for file in files}


def test_a_search_with_cached_features_computes_none_and_has_the_same_results(cold, tmp_path):
    before, seen = stored(), []
    start(compose("lines", SEARCH), run_dir=tmp_path / "warm", watch_features=lambda *done: seen.append(done))
    assert set(before) == {"stage1.float16", "stage2.float16"}
    assert stored() == before
    assert not seen
    assert commands.contents(tmp_path / "warm") == commands.contents(cold)


def test_workers_read_the_features_of_the_search_and_have_the_same_results(cold, tmp_path):
    before = stored()
    start(compose("lines", [*SEARCH, "execution=local", "execution.workers=2"]), run_dir=tmp_path / "local")
    assert stored() == before
    assert commands.contents(tmp_path / "local") == commands.contents(cold)


def test_features_of_a_running_search_are_not_removed_and_a_killed_search_resumes_to_the_same_results(cold, tmp_path):
    run_dir = tmp_path / "killed"
    process = commands.start(*SEARCH, "--config=lines", f"--run-dir={run_dir}", cwd=tmp_path)
    commands.wait_for(lambda: len(commands.finished(run_dir)) >= 2, process)
    (store,) = list_stores(feature_folder(None))
    assert remove_store(store.directory) == "is in use by another process"
    commands.kill(process)
    assert 2 <= len(commands.finished(run_dir)) < len(commands.finished(cold))
    assert remove_store(store.directory) is None

    resume(run_dir)

    assert commands.contents(run_dir) == commands.contents(cold)
    assert commands.trained_twice(run_dir) == []
