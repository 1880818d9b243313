"""Runner of the benchmarks on synthetic measurements: ratios, targets, table, JSON and figure."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from scripts.bench import __main__ as runner
from scripts.bench.measurement import Measurement, Options, Skipped, interleave


def speed(ours: tuple[float, ...], theirs: tuple[float, ...], target: float | None = None) -> Measurement:
    return Measurement("training", "a loop", ours, theirs, unit="images/s", better="more", target=target)


def test_a_ratio_is_computed_within_a_turn_and_is_the_factor_by_which_nasx_is_better() -> None:
    assert speed((20.0, 90.0, 40.0), (10.0, 30.0, 10.0)).figures == (2.0, 3.0, 4.0)
    assert Measurement("time", "a script", ours=(2.0,), theirs=(5.0,)).figures == (2.5,)


def test_a_target_with_a_peer_is_a_ratio_and_without_a_peer_a_bound() -> None:
    assert speed((25.0,), (10.0,), target=2.5).met
    assert speed((24.0,), (10.0,), target=2.5).met is False
    assert speed((25.0,), (10.0,)).met is None
    overhead = Measurement("overhead", "a limit", ours=(14.0, 16.0, 13.0), unit="ms", target=15.0)
    assert overhead.median == 14.0 and overhead.met


def test_contenders_take_turns() -> None:
    order: list[str] = []

    def contender(name: str) -> float:
        order.append(name)
        return float(len(order))

    samples = interleave({n: (lambda n=n: contender(n)) for n in "ab"}, repeats=2, warm_up=True)
    assert "".join(order) == "ababab"
    assert samples == {"a": (3.0, 5.0), "b": (4.0, 6.0)}


def test_samples_of_different_number_are_refused() -> None:
    with pytest.raises(ValueError, match=r"training: 1 samples of ours, 2 of the peer"):
        speed((1.0,), (1.0, 2.0))


def test_the_runner_prints_a_table_and_writes_json_and_a_figure(tmp_path, monkeypatch) -> None:
    def benchmark(options: Options) -> Iterator[Measurement | Skipped]:
        assert options.quick
        yield speed((20.0, 30.0), (10.0, 10.0), target=3.0)
        yield Skipped("Fashion-MNIST", "no data root")

    monkeypatch.setitem(sys.modules, "scripts.bench.scores", SimpleNamespace(benchmark=benchmark))
    cli = runner.typer.Typer()
    cli.command()(runner.main)
    arguments = ["scores", "--quick", "--json", str(tmp_path / "b.json"), "--plot", str(tmp_path)]
    result = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    for text in ("2.5x", "2 - 3", ">= 3x", "MISSED", "skipped: no data root", "0 of 1 targets met"):
        assert text in result.stdout
    written = json.loads((tmp_path / "b.json").read_text())
    assert written["quick"] is True
    assert written["machine"]["processor"]
    assert written["measurements"][0]["median"] == 2.5
    assert written["skipped"] == [{"benchmark": "scores", "what": "Fashion-MNIST", "why": "no data root"}]
    assert (tmp_path / "bench.png").stat().st_size > 1000


def test_an_unknown_benchmark_is_refused_with_the_nearest_name() -> None:
    cli = runner.typer.Typer()
    cli.command()(runner.main)
    result = CliRunner().invoke(cli, ["candidates"])
    assert result.exit_code == 2
    assert "no benchmark is called 'candidates'. Did you mean candidate?" in " ".join(result.output.split())
