"""Command-line tests of `nasx pareto`, `nasx runs` and `nasx explain`."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from nasx.cli.main import main
from nasx.config.compose import compose
from nasx.config.identity import config_hash
from nasx.config.plain import as_plain, to_yaml
from nasx.files import write_atomically
from nasx.reports.summary import summarize
from nasx.runs.journal import Journal
from nasx.trial import Evaluation, Score, TrialStatus
from tests.factories.report_inputs import make_info
from tests.factories.trials import make_noisy_run, make_run, make_trial

# dataset -> scorer
PAPER = {"mnist": "activations", "cifar10": "activations", "imagenet16_120": "activations_weighted"}
NEEDED = {**{name: ["dataset.root=data"] for name in PAPER}, "nats_bench": ["evaluation.table=table.csv"]}
NEEDED["cifar10_folder"] = ["dataset=folder", "dataset.root=/data/cifar10"]


def write_run(run_dir, trials, config="cifar10"):
    run_dir.mkdir(parents=True)
    settings = as_plain(compose(config.removesuffix("_folder"), NEEDED.get(config, [])))
    write_atomically(run_dir / "config.yaml", to_yaml(settings).encode())
    named = {name: settings[name] for name in ("name", "seed")}
    info = make_info(**named, config=settings, config_hash=config_hash(settings))
    with Journal.create(run_dir, replace(info, objectives=tuple(settings["objectives"]))) as store:
        for trial in trials:
            store.record_candidate(trial.candidate, trial.arch_id, answered=False)
            store.record_trial(trial)
    return run_dir


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Return the directory of the runs, with one run of 64 trials."""
    monkeypatch.setenv("NASX_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("COLUMNS", "200")  # long paths of temporary folders
    write_run(tmp_path / "runs" / "made_up" / "2025-01-01_00-00-00", make_run())
    return tmp_path / "runs"


def test_pareto_shows_the_newest_run_and_names_it_on_stderr(home, capsys):
    write_run(home / "made_up" / "2025-01-02_00-00-00", make_run(3))
    assert main(["pareto"]) == 0
    out, err = capsys.readouterr()
    assert "trials: 3 complete" in out
    assert err == f"The newest run: {home}/made_up/2025-01-02_00-00-00\n"


@pytest.mark.parametrize("format_name", ["csv", "json"])
def test_data_on_stdout_are_complete_whatever_the_width(home, capsys, monkeypatch, format_name):
    monkeypatch.setenv("COLUMNS", "40")
    assert main(["pareto", "--format", format_name]) == 0
    out = capsys.readouterr().out
    n = len(json.loads(out)["front"]) if format_name == "json" else len(out.splitlines()) - 1
    assert n == 8


def test_pareto_draws_the_front_and_prints_the_path(home, capsys, tmp_path):
    assert main(["pareto", "--plot", str(tmp_path / "front.svg")]) == 0
    assert (tmp_path / "front.svg").stat().st_size > 1000
    assert f"Drawn: {tmp_path}/front.svg" in capsys.readouterr().err


def test_pareto_compares_a_run_with_the_papers_front(home, capsys):
    assert main(["pareto", "--paper"]) == 0
    assert "the paper's front on cifar10: hypervolume 0.2933; this run's" in capsys.readouterr().out


def test_with_the_papers_front_json_stays_json(home, capsys):
    assert main(["pareto", "--paper", "--format", "json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["hypervolume"] < 0.35  # by the paper's scorer
    assert "the paper's front" in err


@pytest.mark.parametrize(("dataset", "scorer"), PAPER.items())
def test_a_run_finds_the_papers_front_by_the_name_of_its_dataset(dataset, scorer, tmp_path, capsys):
    metrics = {"error": 0.1, "introspectability": 1.0}
    score = Score(scorer, 0.5, {}, np.zeros((10, 10)), n_samples=100, seconds=0.1)
    trials = [make_trial(evaluation=Evaluation(TrialStatus.COMPLETE, metrics=metrics, scores=(score,)))]
    run = write_run(tmp_path / "run", trials, dataset)

    assert main(["pareto", "--paper", "--run-dir", str(run)]) == 0
    assert f"the paper's front on {dataset}: " in " ".join(capsys.readouterr().out.split())
    assert main(["report", "--run-dir", str(run)]) == 0
    assert f"the paper's front on {dataset}: " in (run / "report.html").read_text().replace("\\u0027", "'")


def test_a_run_from_a_table_has_no_front_in_the_paper(tmp_path, capsys):
    run = write_run(tmp_path / "run", make_run(3), "nats_bench")
    assert main(["pareto", "--paper", "--run-dir", str(run)]) == 2
    assert "looks its results up in a table: the paper has no front" in capsys.readouterr().err


def test_runs_lists_every_run_with_its_results(home, capsys):
    write_run(home / "other" / "2025-01-03_00-00-00", [])
    assert main(["runs"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if "2025-" in line]
    assert [line[1:] for line in lines] == [["64", "58", "8", "0.8509", "-"], ["0", "0", "0", "0.0000", "-"]]


def test_runs_prints_the_certain_hypervolume(home, capsys):
    trials = make_noisy_run()
    write_run(home / "noisy" / "2025-01-03_00-00-00", trials)
    summary = summarize(trials, ("error", "introspectability"), n_classes=10)
    assert main(["runs"]) == 0
    out = capsys.readouterr().out
    (line,) = (line.split() for line in out.splitlines() if "noisy" in line)
    volumes = [f"{volume:.4f}" for volume in (summary.hypervolume, summary.certain_hypervolume)]
    assert line[1:] == ["27", "27", str(len(summary.front)), *volumes]
    assert "-: unknown, and the hypervolume is of observed means, which is too high on average" in " ".join(out.split())


def test_runs_show_lists_every_training_of_a_network(home, capsys):
    trials = make_noisy_run(again=(2,))
    write_run(home / "noisy" / "2025-01-03_00-00-00", trials)
    assert main(["runs", "show"]) == 0
    rows = [line.split()[:4] for line in capsys.readouterr().out.splitlines() if " complete " in line]
    again = trials[-1].arch_id
    assert [row for row in rows if row[1] == again][1:] == [
        [str(n), again, str(k), "complete"] for n, k in ((20, 2), (21, 3))
    ]


@pytest.mark.parametrize("arguments", [["pareto"], ["runs"], ["runs", "show"]])
def test_without_a_terminal_no_number_is_cut_and_no_line_is_wrapped(home, capsys, monkeypatch, arguments):
    monkeypatch.delenv("COLUMNS")
    long = home / ("a long name " * 15).strip() / "2025-01-05_00-00-00"
    write_run(long, make_noisy_run())
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert "…" not in out
    if arguments == ["runs"]:
        assert str(long) in out
    if arguments == ["pareto"]:
        assert "observed" in out


def test_a_damaged_run_does_not_hide_the_others(home, capsys):
    broken = home / "broken" / "2025-01-04_00-00-00"
    broken.mkdir(parents=True)
    (broken / "run.db").write_bytes(b"this is no database at all, only some text")
    assert main(["runs"]) == 0
    out = capsys.readouterr().out
    assert "0.8509" in out
    assert "damaged" in out


def test_runs_check_finds_a_missing_candidate(capsys, tmp_path):
    run = write_run(tmp_path / "gap", make_run(5)[1:])  # candidate 0 is missing
    assert main(["runs", "check", str(run)]) == 2
    out, err = capsys.readouterr()
    assert "its table candidates has no row with the number 0" in out
    assert err.rstrip().endswith("gap: 2 problems")  # the run is made up: it has no names of alleles


def test_pareto_loads_neither_torch_nor_ray_nor_shap_nor_matplotlib(home):
    code = (
        "import sys; from nasx.cli.main import main; main(['pareto']); "
        "print(sorted({'torch', 'ray', 'shap', 'matplotlib', 'sklearn', 'hydra'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.fixture
def one_thread():
    """Run torch on one thread: tiny networks are slower on two."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_a_network_of_a_real_run_is_explained(tmp_path, monkeypatch, capsys, one_thread):
    monkeypatch.setenv("NASX_RUNS", str(tmp_path / "runs"))
    overrides = ["algorithm.evaluations=4", "algorithm.population_size=4", "training.epochs=6", "name=tiny"]
    overrides += ["split.train_images=240", "split.validation_images=80", f"runs_dir={tmp_path / 'runs'}"]
    assert main(["search", "--config", "lines", "execution=serial", *overrides]) == 0
    assert main(["pareto", "--format", "json"]) == 0
    front = json.loads(capsys.readouterr().out.partition("\n{")[2].join(["{", ""]))["front"]
    arch_id = front[0]["arch_id"]
    assert main(["explain", "--arch-id", arch_id[:6], "--samples", "1", "--out", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"Network {arch_id}\nvalidation error")
    assert f"{100 * front[0]['error']:.2f} % (" in out  # the rebuilt network has the same error as after training
    assert "Of 6 pairs:" in out
    figures = {
        f"{name}.png" for name in ("activity", "cell", "confusion", "distances", "maps", "profile", "shap", "tree")
    }
    assert {p.name for p in (tmp_path / "out").iterdir()} == {*figures, "explanation.md", "explanation.html"}
    assert "share of the decision that passes through each edge" in (tmp_path / "out" / "explanation.html").read_text()

    one_image = ["explain", "--arch-id", arch_id, "--out", str(tmp_path / "image")]
    assert main([*one_image, "--sample", "3"]) == 0
    assert "validation image 3 " in capsys.readouterr().out
    assert {p.name for p in (tmp_path / "image").iterdir()} == {"maps.png", "image.md", "image.html"}
    assert main([*one_image, "--sample", str(tmp_path / "out" / "cell.png")]) == 0
    assert "cell.png" in capsys.readouterr().out
    for sample, message in (("80", "--sample must be less than 80"), ("no.png", "must be an image file or an index")):
        assert main([*one_image, "--sample", sample]) == 2
        assert message in capsys.readouterr().err


def test_runs_show_lists_every_trial_and_the_reasons_of_failures(home, capsys):
    assert main(["runs", "show"]) == 0
    out = capsys.readouterr().out
    assert " diverged " in out
    assert "the loss became NaN in epoch 2" in out
    assert sum(" complete " in line for line in out.splitlines()) > 50


def test_runs_show_lists_retries_and_replaced_workers(home, capsys):
    (run,) = home.glob("made_up/2025*")
    with Journal.open(run) as store:
        store.record_event("worker_replaced", "trial 0123456789: CUDA error: an illegal memory access was encountered")
        for number in range(11):
            store.record_event("retry", f"trial {number}: error: its worker process died")
    assert main(["runs", "show"]) == 0
    out = capsys.readouterr().out
    assert "retries, replaced workers and restarts: 12, the last 10 of them (--details: all)" in out
    assert out.splitlines()[-1].endswith(" tried again, trial 10: error: its worker process died")
    assert "illegal memory" not in out
    assert main(["runs", "show", "--details"]) == 0
    assert " worker replaced, trial 0123456789: CUDA error: an illegal memory acc" in capsys.readouterr().out


def test_runs_show_can_be_filtered_by_status(home, capsys):
    assert main(["runs", "show", "--status", "infeasible"]) == 0
    out = capsys.readouterr().out
    assert "chance level" in out
    assert "diverged" not in out


def test_a_folder_called_cifar10_is_not_compared_with_the_papers_cifar10(tmp_path, capsys):
    run = write_run(tmp_path / "run", make_run(3), "cifar10_folder")

    assert main(["pareto", "--paper", "--run-dir", str(run)]) == 2
    assert "the paper has no front for cifar10: these are images of your own." in capsys.readouterr().err
