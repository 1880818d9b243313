"""Fine-tuning the front: records, re-training of what is missing, tables."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from rich.console import Console

from nasx import pareto
from nasx.cli.main import main
from nasx.errors import RunError
from nasx.reports.summary import summarize
from nasx.reports.training_tables import finetuned_table
from nasx.runs.directory import arch_dir, find_run
from nasx.runs.training_records import Finetuned, finetuned_weights_path, read_finetuned, write_finetuned
from nasx.workflows import finetuning
from tests.factories.trials import make_noisy_run, make_trial


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Run a tiny search that fine-tunes its front."""
    torch.set_num_threads(1)
    runs = tmp_path_factory.mktemp("runs")
    patch = pytest.MonkeyPatch()
    patch.setattr(finetuning, "EPOCHS", 1)
    overrides = ["algorithm.evaluations=4", "algorithm.population_size=4", "training.epochs=4", "name=tiny"]
    overrides += ["split.train_images=240", "split.validation_images=80", f"runs_dir={runs}", "finetune_front=0.5"]
    with patch.context():
        assert main(["search", "--config", "lines", "execution=serial", *overrides]) == 0
    yield find_run(None, runs), patch
    patch.undo()


def records_of(run):
    return {path.parent.name: json.loads(path.read_text()) for path in run.glob("archs/*/finetuned.json")}


def test_every_member_of_the_front_has_a_record_and_weights(run, capsys):
    run_dir, _ = run
    assert main(["pareto", "--run-dir", str(run_dir), "--format", "json"]) == 0
    front = {member["arch_id"]: member for member in json.loads(capsys.readouterr().out)["front"]}

    records = records_of(run_dir)

    assert set(records) == set(front)
    for arch_id, record in records.items():
        assert record["before"]["error"] == front[arch_id]["error"]
        assert record["regulariser"] == 0.5  # the stored key
        assert set(record["before"]) == set(record["after"]) == set(record["twin"])
        assert record["after"] != record["twin"]
        assert finetuned_weights_path(run_dir, arch_id).is_file()


def test_the_front_itself_stays_that_of_the_search(run, capsys):
    assert main(["runs", "check", str(run[0])]) == 0
    assert ": OK" in capsys.readouterr().err


def test_finished_networks_are_not_trained_again(run):
    run_dir, _ = run
    arch_id, before = next(iter(records_of(run_dir).items()))
    (arch_dir(run_dir, arch_id) / "finetuned.json").unlink()
    messages = []

    found = finetuning.finetune_front(run_dir, 0.5, messages.append)

    assert [line.split(",")[0] for line in messages] == [f"fine-tuning {arch_id}"]
    assert {record.arch_id for record in found} == set(records_of(run_dir))
    again = records_of(run_dir)[arch_id]
    assert (again["after"], again["twin"]) == (before["after"], before["twin"])  # the same seed, the same training


def test_pareto_prints_them_below_the_front(run, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["pareto", "--run-dir", str(run[0])]) == 0
    out = capsys.readouterr().out
    assert "with the regularizer at 0.5" in out
    assert "as long without it" in " ".join(out.split())
    assert max(map(len, out.splitlines())) <= 80


def record_of(trial, **changes):
    values = dict(  # noqa: C408
        arch_id=trial.arch_id,
        replicate=0,
        regularizer=0.5,
        epochs=5,
        learning_rate=0.01,
        before={"error": 0.1, "introspectability": 0.2, "introspectability_shap": 0.2},
        after={"error": 0.1, "introspectability": 0.4, "introspectability_shap": 0.4},
        control={"error": 0.05, "introspectability": 0.2, "introspectability_shap": 0.2},
        seconds=1.0,
    )
    return Finetuned(**(values | changes))


def test_the_hypervolume_is_that_of_the_front_and_the_fine_tuned_networks():
    trial = make_trial(7, genotype=(3, 1, 4, 0, 2, 3), error=0.1, introspectability=0.2)
    summary = summarize([trial], ["error", "introspectability"], n_classes=10)
    console = Console(width=200, record=True)

    console.print(finetuned_table([record_of(trial)], summary))

    # (0.9 - 0.1) * 0.2 = 0.16; with (0.1, 0.4): 0.8 * 0.4 = 0.32; with (0.05, 0.2): 0.85 * 0.2 = 0.17
    text = " ".join(console.export_text().split())
    assert "Hypervolume of the front 0.1600, with the fine-tuned networks 0.3200 (0.1700)." in text
    assert "10.00 → 10.00 (5.00)" in text
    assert "0.200 → 0.400 (0.200)" in text


def test_the_change_is_added_to_the_estimate():
    trials = make_noisy_run()
    summary = summarize(trials, ["error", "introspectability"], n_classes=10)
    best = summary.front[0]
    trial = next(t for t in trials if t.arch_id == best.arch_id)
    metrics = {name: trial.metrics[name] for name in ("error", "introspectability")}
    same = {"introspectability_shap": 0.4, **metrics}
    better = {**same, "introspectability": metrics["introspectability"] + 0.1}
    console = Console(width=200, record=True)

    console.print(finetuned_table([record_of(trial, before=same, after=better, control=same)], summary))

    expected = pareto.hypervolume(
        np.array(
            [
                [best.metrics["error"], -best.metrics["introspectability"] - 0.1],
                *([m.metrics["error"], -m.metrics["introspectability"]] for m in summary.front),
            ]
        ),
        [0.9, 0.0],
    )
    volume = summary.hypervolume
    assert (
        f"Hypervolume of the front {volume:.4f}, with the fine-tuned networks {expected:.4f} ({volume:.4f})."
        in " ".join(console.export_text().split())
    )


def test_a_record_is_read_as_it_was_written_and_a_damaged_one_is_reported(tmp_path):
    record = record_of(make_trial(7, genotype=(3, 1, 4, 0, 2, 3)))
    assert read_finetuned(tmp_path, record.arch_id) is None
    write_finetuned(record, tmp_path)
    assert read_finetuned(tmp_path, record.arch_id) == record
    (arch_dir(tmp_path, record.arch_id) / "finetuned.json").write_text("{")
    with pytest.raises(RunError, match=r"finetuned\.json is damaged .* Remove it to fine-tune again"):
        read_finetuned(tmp_path, record.arch_id)
