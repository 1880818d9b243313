"""From a config to its parts: what can only be checked when several of them are known."""

from __future__ import annotations

import pytest

import nasx.experiment.experiment
from nasx.algorithms.nsga2 import NSGA2
from nasx.cli.main import main
from nasx.config.compose import compose
from nasx.errors import DataError
from nasx.experiment import prepare, repeatability
from nasx.protocols import Problem

CLASSES = ("none", "horizontal", "vertical", "diagonal")


def write_similarity(path, names):
    rows = [",".join([name, *("1" if name == other else "0.5" for other in names)]) for name in names]
    path.write_text("\n".join([",".join(["class", *names]), *rows]))
    return path


def lines_with(similarity):
    return compose("lines", [f"scorer.similarity={similarity}", "execution=serial"])


def test_similarities_of_the_datasets_classes_are_taken(tmp_path):
    parts = prepare(lines_with(write_similarity(tmp_path / "similar.csv", CLASSES)))

    assert parts.class_names == CLASSES


def test_similarities_in_another_order_than_the_datasets_classes_are_refused(tmp_path):
    similarity = write_similarity(tmp_path / "similar.csv", tuple(reversed(CLASSES)))

    with pytest.raises(DataError, match="class 1 is 'diagonal', but 'none' in the dataset"):
        prepare(lines_with(similarity))


PROBLEM = Problem(gene_sizes=(2, 3), n_objectives=2, seed=0, workers=64)


class UserAlgorithm:
    """Search algorithm without optional members."""

    def ask(self):
        return None

    def tell(self, number, costs):
        pass


def test_a_free_running_search_is_reported_as_not_repeatable():
    notice = repeatability(NSGA2(mode="free_running", problem=PROBLEM), workers=64)

    assert notice.startswith("64 workers: ")
    assert "does not repeat from its seed; algorithm.mode=steady_state does" in notice


def test_other_algorithms_are_repeatable():
    assert repeatability(NSGA2(mode="steady_state", problem=PROBLEM), workers=64) == ""
    assert repeatability(UserAlgorithm(), workers=64) == ""


def test_a_search_checks_the_root_of_its_config_once(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    read, checks = nasx.experiment.experiment.read_config, []

    def counted(config):
        checks.append(config["name"])
        return read(config)

    monkeypatch.setattr("nasx.experiment.experiment.read_config", counted)
    monkeypatch.setattr("nasx.config.compose.read_config", counted)

    assert main(["search", "--config=lines", "--dry-run", "execution=serial", "dataset.train_images=60"]) == 0

    assert checks == ["lines"]
    assert "lines" in capsys.readouterr().out


@pytest.mark.parametrize("seed", [0, 1])
def test_the_indices_of_training_images_are_those_of_the_split_with_the_seed_of_the_run(seed):
    config = compose("lines", ["dataset.train_images=60", "execution=serial", f"seed={seed}"])
    experiment = prepare(config)

    images = experiment.dataset.train().images[experiment.data.train.positions]

    assert (images == experiment.data.train.images).all()
    assert len(images) + len(experiment.data.validation) == 60
