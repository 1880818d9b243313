"""Networks whose weights are not kept are trained again from their seed, to the same weights."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

import nasx
from nasx.cli.main import main
from nasx.data.synthetic import Lines
from nasx.errors import ResourceError, RunError
from nasx.evaluation.train_and_score import evaluate
from nasx.execution.interrupt import Interrupted
from nasx.experiment import Experiment
from nasx.runs.check import check_run
from nasx.runs.directory import kept_weights, prune_weights, weights_file
from nasx.runs.journal import Journal
from nasx.runs.stored_run import ReadOptions, open_run
from nasx.runs.weights import RETRY, choose_training, read_retrained, retrained_file, retry_message
from nasx.trial import Evaluation, Job, Reason
from nasx.workflows import trained_network as module
from nasx.workflows.trained_network import trained_network
from tests.factories.runs import OVERRIDES


def trials_of(run_dir):
    with open_run(run_dir) as run:
        return run.journal.trials()


def off_the_front(run_dir):
    kept = {arch_id for arch_id, _ in kept_weights(run_dir)}
    return next(t for t in trials_of(run_dir) if t.is_complete and t.arch_id not in kept)


def load(run_dir, trial, lines=None, **options):
    notify = (lambda line: None) if lines is None else lines.append
    return trained_network(run_dir, trial, Experiment.of_run(run_dir, ReadOptions(notify=notify, **options)))


def weights(network):
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def are_equal(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture
def no_training(monkeypatch):
    def fail(*_, **__):
        raise AssertionError("a network is trained")

    monkeypatch.setattr(module, "fit", fail)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_training_is_repeated_bit_for_bit(run_dir, threads):
    """Whatever the number of threads of this process: the trial's own number counts."""
    ((arch_id, replicate),) = kept_weights(run_dir)
    before = load_file(weights_file(run_dir, arch_id, replicate))
    weights_file(run_dir, arch_id, replicate).unlink()
    trial = next(t for t in trials_of(run_dir) if t.arch_id == arch_id)
    now = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = load(run_dir, trial)
    finally:
        torch.set_num_threads(now)

    assert found.retrained.is_same
    assert found.retrained.error == trial.metrics["error"]
    assert are_equal(before, weights(found.network))
    assert are_equal(before, load_file(retrained_file(run_dir, arch_id, replicate)))


def test_a_training_in_parts_for_lack_of_memory_is_repeated_in_parts(run_dir):
    first = off_the_front(run_dir)
    experiment = Experiment.of_run(run_dir)
    file = run_dir.parent / "weights.safetensors"
    job = Job(
        arch_id=first.arch_id,
        replicate=0,
        genotype=first.genotype,
        seed=first.seed,
        weights_file=file,
        micro_batches=2,
    )
    trial = replace(first, evaluation=evaluate(job, replace(experiment.spec, device="cpu"), experiment.data), retries=1)
    with Journal.open(run_dir) as store:
        store.record_event(RETRY, retry_message(trial.arch_id, 2, "out_of_memory: no memory"), (trial.arch_id, 0))
        store.record_event(RETRY, retry_message(trial.arch_id, 4, "out_of_memory: no memory"), (trial.arch_id, 1))

    found = load(run_dir, trial)

    assert found.retrained.is_same
    assert are_equal(load_file(file), weights(found.network))


def test_the_weights_are_kept_for_the_next_command(run_dir, no_training, monkeypatch):
    trial = off_the_front(run_dir)
    monkeypatch.undo()
    first = load(run_dir, trial)
    monkeypatch.setattr(module, "fit", None)
    lines = []

    second = load(run_dir, trial, lines)

    assert are_equal(weights(first.network), weights(second.network))
    assert second.retrained == first.retrained
    assert lines == [
        f"{trial.arch_id} was trained again from its seed, as the search kept no weights of it: the same validation "
        f"error, {100 * trial.metrics['error']:.2f} %, and the same losses in every epoch."
    ]


def test_a_network_whose_weights_are_kept_is_not_trained(run_dir, no_training):
    ((arch_id, _),) = kept_weights(run_dir)

    assert load(run_dir, next(t for t in trials_of(run_dir) if t.arch_id == arch_id)).retrained is None


def test_progress_is_reported_after_every_epoch(run_dir):
    seen = []

    load(run_dir, off_the_front(run_dir), watch=lambda finished, epochs: seen.append((finished, epochs)))

    assert seen == [(0, 2), (1, 2), (2, 2)]


def test_before_it_begins_the_time_of_the_search_is_named(run_dir):
    lines = []

    load(run_dir, off_the_front(run_dir), lines)

    assert re.search(r"Training it again from its seed: 2 epochs, \d+ s in the search\.$", lines[0])


# --- differences


def another_machine(monkeypatch, *, error):
    """Let trainings end as on a machine that rounds differently."""
    fit = module.fit

    def rounded(*arguments, **settings):
        fitted = fit(*arguments, **settings)
        history = tuple({**epoch, "train_loss": epoch["train_loss"] + 1e-7} for epoch in fitted.history)
        return replace(fitted, history=history, validation_error=fitted.validation_error + error)

    monkeypatch.setattr(module, "fit", rounded)


def test_another_network_is_named_with_both_errors_on_stderr_and_on_the_page(run_dir, tmp_path, monkeypatch, capsys):
    trial = off_the_front(run_dir)
    another_machine(monkeypatch, error=0.05)
    was = 100 * trial.metrics["error"]
    line = f"NOT the same network, its validation error is {was + 5:.2f} %, that of the search was {was:.2f} %"

    for _ in range(2):  # the second time the weights are read
        call = ["explain", "--arch-id", trial.arch_id, f"--run-dir={run_dir}", f"--out={tmp_path / 'page'}"]
        assert main([*call, "--samples=1"]) == 0
        assert line in capsys.readouterr().err
        assert line in (tmp_path / "page/explanation.html").read_text()


def test_other_losses_with_the_same_error_are_named(run_dir, monkeypatch):
    another_machine(monkeypatch, error=0.0)

    found = load(run_dir, off_the_front(run_dir))

    assert not found.retrained.is_same
    assert re.search(r"the same validation error, .* %, but NOT the same losses; another mach", found.retrained.note)


# --- what cannot be trained


def test_training_can_be_switched_off(run_dir, no_training, capsys):
    trial = off_the_front(run_dir)

    with pytest.raises(RunError, match=r"keeps no weights of .*, and training is switched off \(--no-train\)\.$"):
        nasx.load_run(run_dir, train=False)[trial.arch_id].network()
    assert main(["debug", "--no-train", "--arch-id", trial.arch_id, f"--run-dir={run_dir}"]) == 2
    assert "training is switched off" in capsys.readouterr().err


def test_other_data_train_no_network(run_dir, no_training, monkeypatch):
    read = Lines.train

    def inverted(self):
        images = read(self)
        return replace(images, images=255 - images.images)

    monkeypatch.setattr(Lines, "train", inverted)

    with pytest.raises(RunError, match=r"other data would train another network \(.*pixels.*Restore the data"):
        load(run_dir, off_the_front(run_dir), other_data=True)


@pytest.mark.parametrize(
    ("evaluation", "why"),
    [
        (Evaluation.failed(Reason.DIVERGED, "the loss is NaN"), "its trial is failed, diverged"),
        (Evaluation.infeasible(Reason.CHANCE_LEVEL, "guesses"), "its trial is infeasible, chance level"),
    ],
)
def test_a_trial_without_result_has_no_network(run_dir, no_training, evaluation, why):
    trial = replace(off_the_front(run_dir), evaluation=evaluation)

    with pytest.raises(RunError, match=rf"has no trained network: {why}\. `nasx runs show --details` says more"):
        load(run_dir, trial)


def test_an_interrupted_training_leaves_nothing(run_dir):
    before = sorted((run_dir / "archs").rglob("*"))

    def interrupt(finished, epochs):
        if finished == 1:
            raise Interrupted

    with pytest.raises(Interrupted):
        load(run_dir, off_the_front(run_dir), watch=interrupt)

    assert sorted((run_dir / "archs").rglob("*")) == before


def test_weights_that_cannot_be_written_are_used(run_dir, monkeypatch):
    def full(*_):
        raise ResourceError("no space left on the disk.")

    monkeypatch.setattr(module, "keep_weights", full)
    lines = []

    assert load(run_dir, off_the_front(run_dir), lines).retrained.is_same
    assert "the weights are used, but not kept: no space left on the disk." in lines


# --- files


def test_a_search_that_deletes_weights_leaves_those_of_repeated_trainings(run_dir):
    trial = off_the_front(run_dir)
    load(run_dir, trial)

    prune_weights(run_dir, keep=())

    assert retrained_file(run_dir, trial.arch_id, 0).is_file()
    assert not kept_weights(run_dir)


def test_the_directory_of_a_network_may_be_removed_just_before_its_weights_are_written(run_dir, monkeypatch):
    trial = off_the_front(run_dir)
    make = module.make_directory
    calls = []

    def removed_at_first(*parts):
        calls.append(parts)
        directory = make(*parts)
        if len(calls) == 1:
            directory.rmdir()

    monkeypatch.setattr(module, "make_directory", removed_at_first)
    load(run_dir, trial)

    assert retrained_file(run_dir, trial.arch_id, 0).is_file()


def test_a_check_of_the_run_reads_repeated_trainings(run_dir):
    trial = off_the_front(run_dir)
    load(run_dir, trial)
    file = retrained_file(run_dir, trial.arch_id, 0)
    assert "1 repeated training" in check_run(run_dir).verified
    assert not check_run(run_dir).defects

    file.rename(file.with_name("retrained_1.safetensors"))
    assert [d.message for d in check_run(run_dir).defects] == ["is of no complete trial of this run"]

    file.with_name("retrained_1.safetensors").write_bytes(next(iter(kept_weights(run_dir).values())).read_bytes())
    (defect,) = check_run(run_dir).defects
    assert "is not the file of a repeated training. Remove it to train again" in defect.message


def test_weights_of_another_training_are_refused(run_dir):
    trial = off_the_front(run_dir)
    load(run_dir, trial)
    other = replace(trial, seed=trial.seed + 1)

    assert read_retrained(retrained_file(run_dir, trial.arch_id, 0)).seed == trial.seed
    with pytest.raises(RunError, match=r"is of another training\. Remove it to train again\."):
        load(run_dir, other)


def test_of_several_trainings_the_one_with_weights_is_chosen(run_dir):
    first = off_the_front(run_dir)
    failed = replace(first, evaluation=Evaluation.failed(Reason.DIVERGED, ""))
    second = replace(first, replicate=1)
    third = replace(first, replicate=2)

    assert choose_training(run_dir, [first, second]) is first
    assert choose_training(run_dir, [failed, second]) is second
    assert choose_training(run_dir, [failed]) is failed
    file = retrained_file(run_dir, first.arch_id, 1)
    file.parent.mkdir()
    file.touch()
    assert choose_training(run_dir, [first, second, third]) is second
    weights_file(run_dir, first.arch_id, 2).touch()
    assert choose_training(run_dir, [first, second, third]) is third


def test_predictions_and_pages_of_any_network_are_available_in_python(run_dir, tmp_path):
    network = nasx.load_run(run_dir)[off_the_front(run_dir).arch_id]
    data = Experiment.of_run(run_dir).data

    said = network.predict(data.validation.images[:4])
    page = network.debug(out=tmp_path)

    assert said.probabilities.shape == (4, 4)
    assert "trained again from its seed" in repr(page)


def test_a_training_of_a_worker_of_ray_is_repeated_in_this_process_bit_for_bit(tmp_path):
    run_dir = tmp_path / "run"
    words = [*OVERRIDES, "algorithm.evaluations=2", "execution=local", "--run-dir", str(run_dir)]
    command = [sys.executable, "-m", "nasx", "search", "--config", "lines", *words]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    (arch_id, replicate), *_ = kept_weights(run_dir)
    before = load_file(weights_file(run_dir, arch_id, replicate))
    weights_file(run_dir, arch_id, replicate).unlink()

    after = nasx.load_run(run_dir)[arch_id].network().state_dict()

    assert all(torch.equal(before[name], after[name]) for name in before)
