"""Final training, fine-tuning and repeated training of networks with a frozen backbone."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from nasx.backbones.store_folder import feature_folder, list_stores
from nasx.cli.main import main
from nasx.cli.options import front_trials
from nasx.errors import SettingError
from nasx.evaluation.weights import load_weights
from nasx.experiment import Experiment
from nasx.export.source import find_source
from nasx.networks.backbone import backbone_of
from nasx.runs.directory import kept_weights, weights_file
from nasx.runs.stored_run import ReadOptions
from nasx.runs.training_records import read_final_record
from nasx.workflows.final_training import compute_features, final_dir, plan_final_training, train, weights_path
from nasx.workflows.finetuning import finetune_front
from nasx.workflows.trained_network import trained_network

SHORT = ["training.epochs=2", "training.precision=float32"]
LONGER = "training.epochs=10"  # enough to be better than chance
UNFROZEN = [*SHORT, "training.unfreeze=1", "training.unfreeze_rate=0.5"]


@pytest.fixture
def trial(heads_run):
    return front_trials(heads_run)[0]


def test_the_recipe_is_that_for_a_backbone_unless_another_one_is_named(heads_run):
    lines = []
    options = ReadOptions(notify=lines.append)

    assert plan_final_training(heads_run, options=options).experiment.recipe.epochs == 20
    assert lines[0] == "training=backbone: the recipe for networks on a backbone; training=final is for others."
    named = plan_final_training(heads_run, ["training=digits", "training.epochs=7"]).experiment.recipe
    assert (named.epochs, named.batch_size) == (7, 128)


def test_a_run_without_a_backbone_has_the_long_recipe(run_dir):
    assert plan_final_training(run_dir, ["training.batch_size=16"]).experiment.recipe.epochs == 200


def test_features_are_computed_only_for_trainings_that_are_not_finished(heads_run, trial, tmp_path, monkeypatch):
    train(plan_final_training(heads_run, SHORT), trial, tmp_path / "out", seeds=1)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "empty"))
    plan = plan_final_training(heads_run, SHORT)

    compute_features(plan, [(trial, tmp_path / "out")], seeds=1)
    assert list_stores(feature_folder(None)) == []
    compute_features(plan, [(trial, tmp_path / "out")], seeds=2)
    assert len(list_stores(feature_folder(None))) == 1


@pytest.mark.parametrize("settings", [SHORT, UNFROZEN], ids=["frozen", "unfrozen"])
def test_an_interrupted_training_goes_on_to_the_same_weights(heads_run, trial, tmp_path, settings):
    plan = plan_final_training(heads_run, settings)
    train(plan, trial, tmp_path / "whole", seeds=1)

    def interrupt(trial, number, epoch):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train(plan, trial, tmp_path / "parts", seeds=1, report=interrupt)
    assert (tmp_path / "parts/checkpoint_0.safetensors").exists()
    train(plan, trial, tmp_path / "parts", seeds=1)

    whole, parts = (load_file(weights_path(tmp_path / name, 0)) for name in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_only_the_last_stages_are_trained_further(heads_run, trial, tmp_path):
    plan = plan_final_training(heads_run, UNFROZEN)
    record = train(plan, trial, tmp_path, seeds=1)

    before = plan.experiment.untrained(trial.genotype, record.trainings[0].seed)
    after = plan.experiment.untrained(trial.genotype, record.trainings[0].seed)
    load_weights(after, weights_path(tmp_path, 0))
    *_, last = [name for name, _ in backbone_of(after).stages.named_children()]
    changed = {
        name.split(".")[2]
        for name, tensor in after.state_dict().items()
        if name.startswith("backbone.") and not torch.equal(tensor, before.state_dict()[name])
    }
    assert changed == {last}
    assert record.course["training"]["unfreeze"] == 1
    source = find_source(heads_run, trial, final=tmp_path)
    images = torch.rand(3, *plan.experiment.data.shape)
    torch.testing.assert_close(source.network(images), after.eval()(images))
    assert source.facts["backbone"] == f"tiny up to {last}, {last} trained further, the stages before frozen"


def test_more_stages_than_there_are_cannot_be_trained(heads_run, trial, capsys):
    command = ["train", f"--run-dir={heads_run}", f"--arch-id={trial.arch_id}", "training.unfreeze=3"]
    assert main(command) == 2
    assert "training.unfreeze must be at most" in capsys.readouterr().err


def test_width_is_refused_because_a_head_has_no_filters_to_multiply(heads_run):
    with pytest.raises(SettingError, match=r"--width multiplies space\.channels, but the space of this run has no"):
        plan_final_training(heads_run, width=2)


def test_the_introspectability_of_a_part_of_the_test_images_says_so(heads_run, trial, tmp_path, monkeypatch, capsys):
    command = ["train", f"--run-dir={heads_run}", f"--arch-id={trial.arch_id}", *SHORT]
    assert main([*command, f"--out={tmp_path / 'all'}"]) == 0
    assert "drawn at random" not in capsys.readouterr().out
    monkeypatch.setattr("nasx.workflows.final_training.MAX_BACKBONE_IMAGES", 60)
    assert main([*command, f"--out={tmp_path / 'some'}"]) == 0
    assert "introspectability: of 60 test images, drawn at random" in capsys.readouterr().out


def test_the_test_error_is_that_of_the_whole_network(heads_run, trial, capsys):
    command = [
        "train",
        f"--run-dir={heads_run}",
        f"--arch-id={trial.arch_id}",
        "--seeds=2",
        "--format=json",
        *UNFROZEN,
        LONGER,
    ]
    assert main(command) == 0

    (told,) = json.loads(capsys.readouterr().out)
    plan = plan_final_training(heads_run, [*UNFROZEN, LONGER])
    images, _ = plan.experiment.test_images()
    data = plan.experiment.data
    for number, training in enumerate(told["trainings"]):
        network = plan.experiment.untrained(trial.genotype, training["seed"])
        load_weights(network, weights_path(final_dir(heads_run, trial.arch_id), number))
        pixels = (
            torch.from_numpy(images.images) / 255 - torch.from_numpy(data.mean)[:, None, None]
        ) / torch.from_numpy(data.std)[:, None, None]
        with torch.no_grad():
            predicted = network.eval()(pixels.float()).argmax(dim=1).numpy()
        assert training["error"] == pytest.approx((predicted != images.labels).mean())
        assert training["introspectability"] is not None
    assert read_final_record(final_dir(heads_run, trial.arch_id)).images["test"] == 100


@pytest.mark.parametrize(
    "settings",
    [
        ["training.average=0.9"],
        ["training.regularizer=0.5", "training.unfreeze=1"],
        ["training.class_weights=true", "training.keep=best", "training.unfreeze=1"],
    ],
    ids=["average", "regularizer", "class weights"],
)
def test_every_kind_of_training_works_with_a_backbone(heads_run, trial, tmp_path, settings):
    record = train(plan_final_training(heads_run, [*SHORT, *settings]), trial, tmp_path, seeds=1)
    assert len(record.trainings[0].history) == 2


@pytest.mark.parametrize("is_cached", [True, False])
def test_a_training_is_repeated_bit_for_bit_with_and_without_cached_features(
    heads_run, trial, is_cached, tmp_path, monkeypatch
):
    ((arch_id, replicate), *_) = [key for key in kept_weights(heads_run) if key[0] == trial.arch_id]
    file = weights_file(heads_run, arch_id, replicate)
    before = load_file(file)
    file.unlink()
    if not is_cached:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "empty"))

    found = trained_network(heads_run, trial, Experiment.of_run(heads_run))

    assert found.retrained.is_same
    now = found.network.state_dict()
    assert all(torch.equal(tensor, now[name]) for name, tensor in before.items())


def test_the_front_is_fine_tuned_on_features(heads_run):
    records = finetune_front(heads_run, 0.3)
    assert {record.arch_id for record in records} == {trial.arch_id for trial in front_trials(heads_run)}
    assert all(0 <= record.after["error"] <= 1 for record in records)
