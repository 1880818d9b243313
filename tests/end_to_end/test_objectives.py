"""Every objective is measured, runs through a whole search, and is shown with its unit."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import pytest
import torch

from nasx.cli.main import main
from nasx.config.compose import compose
from nasx.errors import SettingError
from nasx.evaluation.device import LEAST_PASSES, PASSES, describe_device, measure_latency
from nasx.experiment import Experiment, prepare
from nasx.planning.describe import describe
from nasx.reports.figures.front import front_figure
from nasx.reports.summary import read_summary, summarize
from nasx.reports.text import latency_sentence
from nasx.runs.check import check_run
from nasx.trial import OBJECTIVES, Job, Reason
from nasx.workflows import search as searching
from tests.factories.networks import staged_network
from tests.factories.runs import OVERRIDES
from tests.factories.trials import make_trial

PAIRS = [("error", "latency"), ("introspectability", "macs"), ("macro_error", "parameters")]
UNITS = {
    "error": r" %",
    "macro_error": r" %",
    "latency": r" ms",
}


def config_of(tmp_path, *overrides):
    return compose("lines", [*OVERRIDES, "execution=serial", f"runs_dir={tmp_path}", *overrides])


def test_every_objective_is_tested():
    assert sorted(name for pair in PAIRS for name in pair) == sorted(OBJECTIVES)


@pytest.mark.parametrize("names", PAIRS)
def test_an_objective_goes_through_search_front_table_plot_and_report(names, tmp_path, capsys):
    run_dir = tmp_path / "run"
    bounds = [f"constraints.{name}.min=0" for name in names]

    searching.start(
        config_of(tmp_path, f"objectives=[{','.join(names)}]", "algorithm.evaluations=3", *bounds), run_dir=run_dir
    )

    summary = read_summary(run_dir)
    assert summary.front
    assert summary.hypervolume >= 0
    assert not check_run(run_dir).defects
    call = [f"--run-dir={run_dir}"]
    assert main(["pareto", *call]) == 0
    table = capsys.readouterr().out
    assert main(["pareto", *call, "--format=csv"]) == 0
    row = next(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert main(["pareto", *call, "--format=json"]) == 0
    plain = json.loads(capsys.readouterr().out)
    assert main(["report", *call, f"--out={tmp_path / 'report.html'}"]) == 0
    labels = [front_figure(summary).axes[0].get_ylabel(), front_figure(summary).axes[0].get_xlabel()]
    for name, label in zip(names, labels, strict=True):
        objective = OBJECTIVES[name]
        assert float(row[name]) == plain["front"][0][name] >= 0
        assert plain["objectives"][name] == {"direction": objective.direction, "unit": objective.unit}
        assert UNITS.get(name, "") in table
        assert objective.label in label
        assert not objective.unit or f"({objective.unit})" in label
        assert f'"{name}"' in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_network_outside_the_bounds_of_a_metric_is_infeasible(name, tmp_path):
    bound = {"maximize": "max=1e-9", "minimize": "min=0.999999"}[OBJECTIVES[name].direction]
    bound = {"parameters": "min=1e9", "macs": "min=1e12", "latency": "min=1e6"}.get(name, bound)
    experiment = Experiment.from_config(config_of(tmp_path, f"constraints.{name}.{bound}"))
    job = Job(arch_id="a", replicate=0, genotype=(0, 2, 0, 3, 0, 2), seed=0, weights_file=tmp_path / "x/y.safetensors")

    evaluation = experiment.evaluate(job)

    assert evaluation.reason is Reason.CONSTRAINT
    assert evaluation.detail.startswith(f"{name} ")
    assert not (tmp_path / "x").exists()


def test_a_metric_that_the_table_lacks_is_refused_as_an_objective_and_as_a_constraint(tmp_path):
    (tmp_path / "t.csv").write_text("architecture,error\n")
    table = ["evaluation=tabular", f"evaluation.table={tmp_path / 't.csv'}"]
    table += ["evaluation.metrics={error: {column: error}}", "objectives=[error]"]

    for setting in ("objectives=[error,latency]", "constraints.latency.max=5"):
        with pytest.raises(SettingError, match=r"metrics\.latency is missing: latency is .*, and the space nb201 cann"):
            prepare(config_of(tmp_path, *table, setting))


def test_a_search_for_latency_says_before_it_starts_that_it_will_not_repeat(tmp_path):
    by_latency = prepare(config_of(tmp_path, "objectives=[error,latency]"))
    by_bound = prepare(config_of(tmp_path, "constraints.latency.max=5"))

    for experiment in (by_latency, by_bound):
        assert "latency is measured: it depends on the machine" in describe(experiment)
    assert "repeats:" not in describe(prepare(config_of(tmp_path)))


def test_the_device_is_recorded_and_shown(tmp_path, capsys):
    experiment = Experiment.from_config(config_of(tmp_path, "objectives=[error,latency]"))
    job = Job(arch_id="a", replicate=0, genotype=(0, 2, 0, 3, 0, 2), seed=0, weights_file=tmp_path / "x/y.safetensors")

    evaluation = experiment.evaluate(job)

    device = describe_device(torch.device("cpu"), 1)
    assert evaluation.detail == f"latency measured on {device}"
    assert evaluation.latency_device == device
    assert device.endswith(", 1 thread")


def test_times_on_different_devices_are_not_called_comparable():
    trials = [make_trial(number, error=0.1, latency=1.0) for number in (0, 1)]
    details = [f"latency measured on {device}; trained without CUDA graphs" for device in "AB"]
    trials = [replace(t, evaluation=replace(t.evaluation, detail=d)) for t, d in zip(trials, details, strict=True)]

    summary = summarize(trials, ("error", "latency"), n_classes=10)

    assert latency_sentence(summary).endswith("measured on A; B: times on different devices cannot be compared")
    assert latency_sentence(summarize(trials, ("error",), n_classes=10)) == ""


def test_a_measurement_changes_neither_the_network_nor_the_random_numbers():
    network = staged_network()
    network.train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    state = torch.get_rng_state()

    latency = measure_latency(network, (3, 8, 8), torch.device("cpu"))

    assert latency > 0
    assert network.training
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


def test_a_measurement_is_the_median_of_its_passes_and_ends_soon(monkeypatch):
    from nasx.evaluation import device as module

    clock = iter(range(10_000))
    monkeypatch.setattr(module.time, "perf_counter", lambda: next(clock) / 10)  # 0.1 s between two looks
    passes = []

    class Counted(torch.nn.Module):
        def forward(self, images):
            passes.append(len(images))
            return images

    latency = measure_latency(Counted(), (1, 4, 4), torch.device("cpu"))

    assert latency == pytest.approx(100)
    assert passes == [1] * (module.WARM_UP + LEAST_PASSES)
    assert PASSES > LEAST_PASSES
