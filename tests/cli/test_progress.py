"""The search on screen: what it says, at every width, without colour, and in a file."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from types import SimpleNamespace

import pytest
from rich.cells import cell_len
from rich.console import Console

from nasx.algorithms.estimates import Noise
from nasx.cli import progress as progress_module
from nasx.cli.panel import SearchPanel, scatter
from nasx.cli.train import EpochDisplay
from nasx.execution.budget import Forecast, Progress, Running
from nasx.reports.summary import FrontSummary, summarize
from nasx.trial import OBJECTIVES, Candidate, Evaluation, Reason, Trial, TrialStatus

BOTH = (OBJECTIVES["error"], OBJECTIVES["introspectability"])
CELL = "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|skip_connect~2|"


def trial(number, evaluation):
    return Trial(f"{number:010x}", 0, (0,) * 6, CELL, 0, evaluation, Candidate(number, (0,) * 6, 0, "random"))


def complete(number, error, introspectability):
    metrics = {"error": error, "introspectability": introspectability}
    return trial(number, Evaluation(TrialStatus.COMPLETE, metrics=metrics))


def failed(number, detail):
    return trial(number, Evaluation.failed(Reason.ERROR, detail))


FRONT = (complete(1, 0.02, 0.2), complete(2, 0.06, 0.3), complete(3, 0.1, 0.55))
OBSERVED = summarize([*FRONT, complete(4, 0.1, 0.2)], ("error", "introspectability"), n_classes=10)


def estimated() -> FrontSummary:
    """The same networks with estimates."""
    noise = tuple(Noise(o.name, 0.01, 0.5, 0.2, 1.0, 3, 12) for o in BOTH)
    networks = [replace(a, std={"error": 0.0031, "introspectability": 0.012}) for a in OBSERVED.architectures]
    return replace(
        OBSERVED,
        architectures=tuple(networks),
        front=tuple(networks[:3]),
        noise=noise,
        why_observed="",
        certain_hypervolume=0.4012,
        hypervolume=0.4321,
    )


def progress(**changes) -> Progress:
    """A search at its middle."""
    facts = {
        "evaluations": 64,
        "evaluated": 30,
        "jobs": (Running("28d5170bc0", CELL, 0, True, 75.0), Running("62af9e8091", CELL, 1, True, 3.0)),
        "complete": 25,
        "failed": 1,
        "infeasible": 4,
        "dominated": 3,
        "cached": 7,
        "generation": 2,
        "retrained": 0,
        "summary": OBSERVED,
        "failures": (failed(5, "Traceback (most recent call last):\n  ...\nValueError: made up"),),
        "elapsed": 100.0,
        "gpu_hours": 0.0,
        "forecast": Forecast(3700.0, 34),
    }
    return Progress(**{**facts, **changes})


def drawn(shown, width=80, height=24, **console) -> str:
    out = io.StringIO()
    settings = {"color_system": None, "force_terminal": True, **console}
    Console(file=out, width=width, height=height, **settings).print(SearchPanel(shown, BOTH, "Ctrl-C ends it"))
    return out.getvalue()


@pytest.mark.parametrize("width", [40, 60, 80, 100, 200])
def test_no_line_is_longer_than_the_terminal_is_wide(width):
    lines = drawn(progress(), width).splitlines()

    assert max(map(cell_len, lines)) <= width


def test_it_fits_80_columns_and_24_lines_with_all_that_it_may_say():
    many = tuple(Running(f"{n:010x}", CELL, 0, n < 9, 2.0) for n in range(10))
    failures = tuple(failed(n, "a long story " * 20) for n in range(3))

    lines = drawn(progress(jobs=many, failures=failures, retrained=3, gpu_hours=1.25, summary=estimated())).splitlines()

    assert len(lines) <= 24
    assert any("and 5 more, starting 1 worker ..." in line for line in lines)
    assert any("1.25" in line for line in lines)


def test_it_tells_what_runs_since_when_and_what_has_failed():
    shown = drawn(progress(), 160)

    assert re.search(r"28d5170bc0 +1 min 15 s +\|nor_conv_3x3~0\|", shown)
    assert re.search(r"62af9e8091 +3 s, training 2 ", shown)
    assert "0000000005  error: ValueError: made up" in shown
    assert "4 (3 stopped)" in shown
    assert "elapsed 1 min 40 s, 34 trainings left, ETA 1 h 01 min" in shown


@pytest.mark.parametrize("width", [40, 60, 80, 100])
def test_the_best_estimates_are_shown_with_their_uncertainty_and_what_is_certain(width):
    shown = drawn(progress(summary=estimated(), retrained=11), width, height=40)

    assert re.search(r"best valid\S* \S* +2\.00 ± 0\.31 % ", shown)
    assert re.search(r"best intro\S* +0\.550 ± 0\.012 ", shown)
    assert re.search(r"hypervolume +0\.4321 ", shown)
    assert re.search(r"certain part +0\.4012", shown)
    assert re.search(r"trained again +11", shown)


def test_a_hypervolume_of_observed_values_says_so():
    assert "(observed)" in drawn(progress())
    assert "(observed)" not in drawn(progress(summary=estimated()))
    assert "(observed)" not in drawn(progress(summary=summarize([], ("error",), n_classes=10)))


def test_the_front_is_drawn_with_its_range():
    shown = drawn(progress())

    plot = [line for line in shown.splitlines() if " |" in line and "~" not in line]
    assert sum(line.partition(" |")[2].count("o") for line in plot) == len(FRONT)
    assert sum(line.partition(" |")[2].count(".") for line in plot) == 1
    assert "0.550 |" in plot[0]
    assert "0.200 |" in plot[-1]
    assert re.search(r"2\.00 % +validation error and introspectability, o: front +10\.00 %", shown)


@pytest.mark.parametrize("trials", [FRONT[:1], ()])
def test_there_is_no_picture_of_fewer_than_two_points(trials):
    summary = summarize(trials, ("error", "introspectability"), n_classes=10)

    assert "o: front" not in drawn(progress(summary=summary))


def test_a_low_terminal_has_no_picture():
    assert "o: front" not in drawn(progress(), height=16)


def test_without_colour_nothing_is_lost_and_no_code_is_written():
    plain, coloured = drawn(progress()), drawn(progress(), color_system="truecolor")

    assert "\x1b" not in plain
    bar = "━╸╺ "  # what remains of it shows by its colour alone, and by the figures beside it
    assert re.sub(rf"\x1b\[[0-9;]*m|[{bar}]", "", coloured) == re.sub(f"[{bar}]", "", plain)


def test_words_from_outside_stay_words():
    shown = drawn(progress(failures=(failed(5, "[bold]no\x1b[2J markup[/red]"),)))

    assert "error: [bold]no [2J markup[/red]" in shown


def test_the_panel_follows_the_terminal_when_it_is_resized():
    out = io.StringIO()
    console = Console(file=out, width=100, height=30, force_terminal=True, color_system=None)
    shown = SearchPanel(progress(), BOTH, "")

    console.print(shown)
    console.width = 50
    console.print(shown)

    wide, narrow = (out.getvalue().splitlines()[i] for i in (0, -1))
    assert (cell_len(wide), cell_len(narrow)) == (100, 50)


class Loop:
    """What a display asks of a search loop."""

    def __init__(self):
        self.objectives, self.stopping, self.enough, self.now = BOTH, None, None, progress()

    def progress(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    """Time that stands still unless it is moved."""
    now = SimpleNamespace(seconds=1000.0)
    monkeypatch.setattr(progress_module.time, "monotonic", lambda: now.seconds)
    return now


def test_a_file_gets_plain_lines_seldom_and_the_last_at_the_end(clock):
    out, loop = io.StringIO(), Loop()

    with progress_module.SearchDisplay(Console(file=out, width=80)) as shown:
        for evaluated in (1, 2, 3):
            loop.now = progress(evaluated=evaluated, jobs=())
            clock.seconds += 6
            shown.watch(loop)

    said = out.getvalue().splitlines()
    assert [line.partition(",")[0] for line in said] == ["2/64 trainings", "3/64 trainings"]
    assert said[0] == (
        "2/64 trainings, 1 failed, 4 (3 stopped) infeasible, 7 from the journal, best validation error 2.00 %, "
        f"best introspectability 0.550, hypervolume {OBSERVED.hypervolume:.4f} (observed), front of 3, "
        "elapsed 1 min 40 s, 34 trainings left, ETA 1 h 01 min"
    )
    assert "\x1b" not in out.getvalue()


def test_a_plain_line_has_estimates_what_is_certain_and_how_often_networks_were_trained_again():
    said = progress_module.line(progress(summary=estimated(), retrained=5, forecast=None), BOTH)

    assert ", 5 trained again, best validation error 2.00 ± 0.31 %, best introspectability 0.550 ± 0.012, " in said
    assert "hypervolume 0.4321 (0.4012 certain), front of 3, elapsed 1 min 40 s" in said


def test_a_file_is_told_once_that_workers_start(clock):
    out, loop = io.StringIO(), Loop()
    loop.now = progress(evaluated=0, jobs=tuple(Running("28d5170bc0", CELL, 0, False, 1.0) for _ in range(2)))

    with progress_module.SearchDisplay(Console(file=out)) as shown:
        for _ in range(5):
            clock.seconds += 1
            shown.watch(loop)

    assert out.getvalue() == "starting 2 workers ...\n"


def test_a_file_is_told_what_runs_where_nothing_ends_for_long(clock):
    out, loop = io.StringIO(), Loop()
    loop.now = progress(evaluated=0)

    with progress_module.SearchDisplay(Console(file=out)) as shown:
        for seconds in (30, 45, 30, 45):
            clock.seconds += seconds
            shown.watch(loop)

    assert out.getvalue() == 2 * "0/64 trainings, 2 running, the longest for 1 min 15 s, elapsed 1 min 40 s\n"


def test_a_terminal_shows_the_panel_from_the_start_and_nothing_of_it_afterwards(clock):
    out, loop = io.StringIO(), Loop()
    console = Console(file=out, width=80, height=24, force_terminal=True, color_system=None)

    with progress_module.SearchDisplay(console) as shown:
        assert "starting the workers" in out.getvalue()
        clock.seconds += 1
        shown.watch(loop)
        assert "Ctrl-C ends after this trial" in out.getvalue()
        loop.stopping = "interrupted"
        clock.seconds += 1
        shown.watch(loop)
        assert "interrupted: finishing the running trials; Ctrl-C again to end now" in out.getvalue()

    assert out.getvalue().endswith("\x1b[2K")  # the last line erased


def test_points_that_share_a_coordinate_lie_in_the_middle():
    assert scatter([(0.5, 1.0), (0.5, 2.0)], [True, False], 3, 2) == [" . ", " o "]
    assert scatter([], [], 3, 2) == ["   ", "   "]


def test_a_file_gets_a_line_of_epochs_seldom_and_one_at_the_end_of_each_training(clock):
    out = io.StringIO()

    with EpochDisplay(Console(file=out, width=80), epochs=3, seeds=2) as shown:
        for seed in range(2):
            for epoch in (1, 2, 3):
                clock.seconds += 6
                shown.report(complete(1, 0.02, 0.2), seed, {"epoch": epoch, "validation_error": 0.25})

    assert out.getvalue().splitlines() == [
        "0000000001 seed 1/2: epoch 2/3, error 25.00% held out",
        "0000000001 seed 1/2: epoch 3/3, error 25.00% held out",
        "0000000001 seed 2/2: epoch 2/3, error 25.00% held out",
        "0000000001 seed 2/2: epoch 3/3, error 25.00% held out",
    ]


def test_a_terminal_shows_a_bar_of_epochs_for_each_training():
    out = io.StringIO()
    console = Console(file=out, width=100, height=24, force_terminal=True, color_system=None)
    with EpochDisplay(console, epochs=3, seeds=2) as display:
        display.report(complete(1, 0.02, 0.2), 0, {"epoch": 2, "validation_error": 0.25})
        display.live.refresh()

    assert re.search(r"0000000001 seed 1/2 ━+.* epoch 2/3, error 25\.00% held out", out.getvalue())


def steps(display, clock) -> None:
    """Show the progress of a step of 4,000 parts, of which each 1,000 take 6 seconds."""
    for finished in range(0, 4001, 1000):
        display.show(finished, 4000)
        clock.seconds += 6


FEATURES = "Features of the backbone: image 2,000 of 4,000, ETA 12 s\n"


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_step_of_a_command_without_a_status_has_plain_lines(clock, is_terminal):
    out = io.StringIO()
    console = Console(file=out, width=80, force_terminal=is_terminal, color_system=None)

    steps(progress_module.FeatureDisplay(console), clock)

    assert out.getvalue() == FEATURES


def test_a_step_has_a_bar_in_the_status_of_a_command_which_then_has_its_text_again(clock):
    console = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None)
    status = console.status("Reading the images ...")
    display = progress_module.FeatureDisplay(console, status)
    display.show(0, 4000)
    display.show(2000, 4000)
    console.print(status.status)
    display.show(4000, 4000)

    assert "image 2,000 of 4,000" in console.file.getvalue()
    assert status.status == "Reading the images ..."


def test_the_features_of_a_search_have_a_bar_in_its_panel_or_plain_lines(clock):
    for is_terminal in (True, False):
        out = io.StringIO()
        console = Console(file=out, width=90, height=24, force_terminal=is_terminal, color_system=None)
        with progress_module.SearchDisplay(console) as shown:
            steps(progress_module.SearchFeatureDisplay(shown), clock)
        said = out.getvalue()
        assert ("━" in said) == is_terminal
        assert "image 2,000 of 4,000, ETA 12 s" in said
        assert (said == FEATURES) != is_terminal
