"""`nasx train`: finished seeds stay, killed ones go on, and the test images are looked at once."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from nasx.cli.main import main
from nasx.cli.options import front_trials
from nasx.errors import RunError, SettingError
from nasx.evaluation.weights import load_weights
from nasx.experiment import Experiment
from nasx.export.source import find_source
from nasx.reports.summary import read_summary
from nasx.reports.training_tables import finals_json, finals_table
from nasx.runs.directory import lock
from nasx.runs.journal import Journal
from nasx.runs.stored_run import ReadOptions
from nasx.runs.training_records import read_final_record, read_test_set_evaluations, record_test_set_evaluation
from nasx.workflows.final_training import final_dir, plan_final_training, train, weights_path
from nasx.workflows.final_training import test as take_test

SHORT = ["training.epochs=2", "training.batch_size=16", "training.precision=float32"]


@pytest.fixture
def trial(run_dir):
    return front_trials(run_dir)[0]


def nasx_train(run_dir: Path, *options: str) -> list[str]:
    return ["train", f"--run-dir={run_dir}", *options, *SHORT]


def test_a_network_is_trained_with_several_seeds_and_tested(run_dir, trial, capsys):
    assert main(nasx_train(run_dir, f"--arch-id={trial.arch_id}", "--seeds=2", "--format=json")) == 0

    (told,) = json.loads(capsys.readouterr().out)
    first, second = told["trainings"]
    assert told["images"] == {"train": 285, "calibration": 15, "test": 100}
    assert first["seed"] != second["seed"]
    assert told["test_error"] == pytest.approx((first["error"] + second["error"]) / 2)
    assert all(0 <= first[name] <= 1 for name in ("error", "macro_error", "ece", "calibrated_ece"))
    assert {"introspectability", "introspectability_shap", "introspectability_activations"} <= first.keys()


def test_the_test_images_are_reported_class_by_class(run_dir, trial, tmp_path, capsys):
    out = tmp_path / "final"
    assert main(nasx_train(run_dir, f"--arch-id={trial.arch_id}", f"--out={out}")) == 0
    assert "test images class by class:\n" in (text := capsys.readouterr().out)
    assert "recall" in text
    record = read_final_record(out)
    (training,) = record.trainings
    right = sum(n for a, b, n in training.confusion if a == b)
    assert 1 - right / record.images["test"] == pytest.approx(training.test["error"])
    (network,) = json.loads(finals_json([record]))
    assert sum(map(sum, network["confusion"])) == sum(c["images"] for c in network["classes"]) == record.images["test"]
    assert (out / "test_classes.csv").read_text().startswith("class,images,predicted,recall,")
    assert (out / "test_confusion.png").is_file()
    console = Console(file=io.StringIO(), width=200)
    console.print(finals_table([record], ["macro_error"]))
    assert re.search(r"search +test macro +introspect-\s+network +error +error +test error", console.file.getvalue())
    plain = replace(record, trainings=(replace(training, confusion=None),))  # of an earlier version
    (network,) = json.loads(finals_json([plain]))
    assert network["classes"] is network["confusion"] is None
    with pytest.raises(ValueError, match=r"its images do not add up to the 100 test images"):
        replace(record, trainings=(replace(training, confusion=((0, 0, 1),)),))


def test_a_network_that_only_guesses_has_no_introspectability(run_dir, trial, capsys):
    guessing = [f"--arch-id={trial.arch_id}", "training.learning_rate=0.0000001"]
    assert main(nasx_train(run_dir, *guessing)) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert (
        f"{trial.arch_id}: no introspectability in 1 of 1 trainings: their networks are no better than guessing"
        in shown
    )
    assert main(nasx_train(run_dir, *guessing, "--format=json")) == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert told["trainings"][0]["introspectability"] is None
    assert told["trainings"][0]["error"] > 0.5


def test_the_error_of_the_search_is_estimated_from_all_its_trainings(run_dir, trial):
    (known,) = (each for each in read_summary(run_dir).architectures if each.arch_id == trial.arch_id)
    found = replace(known, metrics={**known.metrics, "error": 0.2}, std={"error": 0.03}, trainings=3)
    plan, directory = plan_final_training(run_dir, [*SHORT, "training.epochs=1"]), final_dir(run_dir, trial.arch_id)

    record = train(plan, trial, directory, seeds=1, found=found)

    assert (record.validation_error, record.validation_error_std, record.search_trainings) == (0.2, 0.03, 3)
    assert read_final_record(directory).validation_error_std == 0.03
    facts = find_source(run_dir, trial).facts
    assert facts["validation error in the search"].startswith("20.00 ± 3.00 % (estimate from 3 trainings of it")
    (tested,), _ = take_test(plan, [(record, directory)], run_dir, seeds=1)
    console = Console(width=100, file=io.StringIO())
    console.print(finals_table([tested]))
    assert "20.00 ± 3.00 %" in console.file.getvalue()


def test_a_repeated_test_set_evaluation_counts_once(tmp_path):
    record_test_set_evaluation(tmp_path, "aaaaaaaaaa", "course", [0])

    assert [each.trainings for each in record_test_set_evaluation(tmp_path, "aaaaaaaaaa", "course", [1])] == [(0,)]
    assert [each.trainings for each in record_test_set_evaluation(tmp_path, "aaaaaaaaaa", "course", [1])] == [(0,)]
    assert [each.trainings for each in record_test_set_evaluation(tmp_path, "aaaaaaaaaa", "course", [0])] == [(1,)]

    assert [each.trainings for each in read_test_set_evaluations(tmp_path)] == [(0,), (1,)]


@pytest.mark.parametrize("other", [("bbbbbbbbbb", "course", [0]), ("aaaaaaaaaa", "another course", [0])])
def test_the_evaluation_of_another_network_or_of_other_settings_counts_too(tmp_path, other):
    record_test_set_evaluation(tmp_path, "aaaaaaaaaa", "course", [0])

    assert len(record_test_set_evaluation(tmp_path, *other)) == 1
    assert len(read_test_set_evaluations(tmp_path)) == 2


def test_two_networks_are_tested_at_once_with_as_many_trainings_as_asked(run_dir, trial, tmp_path):
    plan = plan_final_training(run_dir, [*SHORT, "training.epochs=1"])
    with Journal.open(run_dir, read_only=True) as journal:
        other = next(t for t in journal.trials() if t.is_complete and t.arch_id != trial.arch_id)
    records = [(train(plan, t, tmp_path / t.arch_id, seeds=2), tmp_path / t.arch_id) for t in (trial, other)]

    tested, before = take_test(plan, records, run_dir, seeds=1)

    assert before == []
    assert [[training.test is None for training in record.trainings] for record in tested] == [[False, True]] * 2


def test_a_record_of_an_earlier_version_has_one_training_of_the_search(run_dir, trial):
    directory = final_dir(run_dir, trial.arch_id)
    train(plan_final_training(run_dir, [*SHORT, "training.epochs=1"]), trial, directory, seeds=1)
    file = directory / "final.json"
    values = json.loads(file.read_text())
    for key in ("validation_error_std", "search_trainings", "checksum"):
        del values[key]
    file.write_text(json.dumps(values))
    record = read_final_record(directory)
    assert (record.validation_error_std, record.search_trainings) == (None, 1)


def test_two_trainings_of_a_network_at_a_time_are_refused(run_dir, trial):
    directory = final_dir(run_dir, trial.arch_id)
    directory.mkdir()
    with (
        lock(directory, "training"),
        pytest.raises(RunError, match=rf"in use by another training \(process {os.getpid()} .*another --out\.$"),
    ):
        train(plan_final_training(run_dir, SHORT), trial, directory, seeds=1)


def test_the_recorded_test_error_is_that_of_the_kept_weights(run_dir, trial):
    plan = plan_final_training(run_dir, SHORT)
    record = train(plan, trial, final_dir(run_dir, trial.arch_id), seeds=1)
    (record,), _ = take_test(plan, [(record, final_dir(run_dir, trial.arch_id))], run_dir, seeds=1)

    network = plan.experiment.untrained(trial.genotype, 99)
    load_weights(network, weights_path(final_dir(run_dir, trial.arch_id), 0))
    images = plan.experiment.dataset.test()
    pixels = (torch.from_numpy(images.images) / 255 - record.mean[0]) / record.std[0]
    with torch.no_grad():
        wrong = network.eval()(pixels).argmax(1).numpy() != images.labels

    assert record.trainings[0].test["error"] == pytest.approx(wrong.mean())


def test_what_is_finished_is_neither_trained_nor_tested_again(run_dir, trial, capsys):
    call = nasx_train(run_dir, f"--arch-id={trial.arch_id}")
    assert main([*call, "--seeds=1"]) == 0
    before = weights_path(final_dir(run_dir, trial.arch_id), 0).stat().st_mtime_ns
    capsys.readouterr()

    assert main([*call, "--seeds=1"]) == 0
    again = capsys.readouterr()
    assert main([*call, "--seeds=2"]) == 0
    more = capsys.readouterr()

    assert weights_path(final_dir(run_dir, trial.arch_id), 0).stat().st_mtime_ns == before
    assert "has used the test images" not in again.err
    assert "seed 1/2" not in more.err
    assert "This run has used the test images 1 time before" in more.err
    assert [each.trainings for each in read_test_set_evaluations(run_dir)] == [(0,), (1,)]


def test_another_course_needs_another_place_and_is_told_that_the_test_images_were_used(
    run_dir, trial, tmp_path, capsys
):
    call = nasx_train(run_dir, f"--arch-id={trial.arch_id}")
    assert main(call) == 0

    assert main([*call, "training.epochs=1"]) == 2
    assert "contains a training with other settings (training.epochs: 2, now 1)" in capsys.readouterr().err
    assert main([*call, "training.epochs=1", f"--out={tmp_path / 'other'}"]) == 0
    assert "If networks are chosen by test errors, these are too optimistic." in capsys.readouterr().err
    assert read_final_record(tmp_path / "other").course["training"]["epochs"] == 1


def test_the_front_is_trained_as_a_whole(run_dir, capsys):
    front = front_trials(run_dir)

    assert main(nasx_train(run_dir, "--front", "training.epochs=1")) == 0

    out, err = capsys.readouterr()
    assert all(trial.arch_id in out for trial in front)
    assert "has used the test images" not in err  # one command, one look


def test_a_training_killed_at_any_instant_goes_on_to_the_same_weights(run_dir, trial, tmp_path):
    settings = [*SHORT, "training.epochs=4"]
    call = [sys.executable, "-m", "nasx", "train", f"--run-dir={run_dir}", f"--arch-id={trial.arch_id}", *settings]
    directory = final_dir(run_dir, trial.arch_id)
    process = subprocess.Popen(call, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env={**os.environ})
    while not list(directory.glob("checkpoint_*")):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()

    plan = plan_final_training(run_dir, settings)
    resumed = train(plan, trial, directory, seeds=1)
    undisturbed = train(plan, trial, tmp_path / "undisturbed", seeds=1)

    assert weights_path(directory, 0).read_bytes() == weights_path(tmp_path / "undisturbed", 0).read_bytes()
    assert resumed.trainings[0].history == undisturbed.trainings[0].history
    assert not list(directory.glob("checkpoint_*"))


def test_width_multiplies_the_filters(run_dir, trial):
    narrow, wide = plan_final_training(run_dir, SHORT), plan_final_training(run_dir, SHORT, width=2)

    stems = [plan.experiment.untrained(trial.genotype, 0).stem[0].out_channels for plan in (narrow, wide)]

    assert stems == [2, 4]


def test_the_calibration_images_are_not_trained_on(run_dir):
    plan = plan_final_training(run_dir, SHORT, calibration=0.2)
    trained_on = {image.tobytes() for image in plan.experiment.data.train.images}

    assert len(plan.experiment.data.train) == 240
    assert not trained_on & {image.tobytes() for image in plan.experiment.data.validation.images}


def test_a_training_that_diverges_is_told_in_one_line(run_dir, trial, tmp_path):
    plan = plan_final_training(run_dir, [*SHORT, "training.learning_rate=1e30"])

    with pytest.raises(RunError, match=r"failed \(the training loss was nan.*lower training.learning_rate"):
        train(plan, trial, tmp_path / "final", seeds=1)


def test_a_space_without_channels_cannot_be_widened(searched):
    from nasx.workflows.final_training import widened

    with pytest.raises(SettingError, match=r"--width multiplies space\.channels, but the space of this run has no"):
        widened({"_target_": "somebody.Space"}, 2)


def test_a_damaged_record_is_told_in_one_line(tmp_path):
    (tmp_path / "final.json").write_text('{"arch_id": 1}')

    with pytest.raises(RunError, match=r"final\.json is damaged.*Remove its directory to train again"):
        read_final_record(tmp_path)


def test_a_training_is_kept_in_the_order_of_its_number(run_dir, trial, tmp_path):
    record = train(plan_final_training(run_dir, [*SHORT, "training.epochs=1"]), trial, tmp_path / "final", seeds=2)

    assert [t.number for t in record.with_training(replace(record.trainings[0], seconds=1.0)).trainings] == [0, 1]


def test_batches_that_are_too_large_for_few_images_are_those_of_the_search(run_dir):
    said: list[str] = []
    options = ReadOptions(notify=said.append)
    recipe = plan_final_training(run_dir, ["training.epochs=2"], options=options).experiment.recipe
    searched = Experiment.of_run(run_dir).recipe
    assert (recipe.batch_size, recipe.learning_rate) == (searched.batch_size, searched.learning_rate)
    assert "as in the search: batches of 512 are too large for " in said[-1]
    own = plan_final_training(run_dir, ["training.batch_size=64"], options=options).experiment.recipe
    assert (own.batch_size, len(said)) == (64, 1)
