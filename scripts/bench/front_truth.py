"""True quality of the networks that a search recommends: on the digits, trained again with fresh seeds.

    python -m scripts.bench.front_truth [--turns 10] [--trainings 64 128] [--first-seed 0] [--json FILE] [--quick]

A turn is a seed. In each turn three tools search the same space with the same images, recipe and objectives
(validation error and introspectability by SHAP), sequentially, each in two processes of one thread:

- nasx, the working tree with its defaults; recommended: the front of `nasx pareto`.
- released: the commit of --released, with the same number of trainings.
- TPE: Optuna's multi-objective TPE with plain PyTorch training (`scripts.bench.tpe_script`), for the elapsed time of
  nasx in this turn, imports included; recommended: the front of the values observed.

The order rotates with the turn; nasx always runs before TPE, since TPE gets the same time. Then every recommended
network, and a reference set of other trained networks near the front of the observed values, is trained again with
fresh seeds. Their means are the true values. The mean of five trainings is itself noisy: even the true hypervolume is
slightly optimistic, equally for every tool.

promised: hypervolume of the values that the tool shows; true: of the true values; both with the reference point error
0.9 and introspectability 0. Optimism: promised / true - 1. Non-dominated: share of the recommended networks that no
other retrained network of this turn dominates by true values; own: among the networks that the tool itself has trained.
The sentence on confirmation states the resolution of the measurement: two of the fresh trainings are set aside, and it
reports the share of the front of the others' means that is on the front of the means of these two. Shares: hypervolume
as a share of that of the true front of all retrained networks, both objectives scaled to the extent of that front.

Run it on an idle machine. Turns are appended to the JSON file as they finish, and turns in the file are skipped. It is
not part of `python -m scripts.bench`: one turn takes minutes, and a single turn is not conclusive.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from nasx.files import write_atomically
from scripts.bench.front_judgement import (
    Point,
    Spread,
    Verdict,
    confirmed,
    costs,
    duel,
    judge,
    means,
    nearest_to_front,
    spread,
)
from scripts.bench.front_tools import ROOT, Found, Truth, by_nasx, by_tpe, train_again, worktree

NASX, RELEASED, TPE = "nasx", "released", "TPE"
ORDERS = ((NASX, RELEASED, TPE), (RELEASED, NASX, TPE), (NASX, TPE, RELEASED))
OVERHEAD = 100  # starts and retraining of a turn, in equivalent trainings; for the ETA

Record = dict[str, Any]  # result of one turn, plain data


@dataclass(frozen=True)
class Plan:
    """Settings that must be equal in all turns of a file."""

    released: str | None = "c8f4bd1"  # commit; None: no comparison
    fresh_seeds: int = 5
    reference: int = 12  # networks of the reference set
    overrides: tuple[str, ...] = ()  # of the digits' config, for every tool

    @property
    def tools(self) -> tuple[str, ...]:
        return tuple(tool for tool in (NASX, RELEASED, TPE) if tool != RELEASED or self.released)


QUICK = Plan(released=None, fresh_seeds=2, overrides=("training.epochs=2",))


def order(turn: int, plan: Plan) -> list[str]:
    """Return the tools in the order in which they run in a turn.

    >>> order(1, Plan()), order(1, QUICK)
    (['released', 'nasx', 'TPE'], ['nasx', 'TPE'])
    """
    return [tool for tool in ORDERS[turn % len(ORDERS)] if tool in plan.tools]


def report(text: str) -> None:
    """Print progress on stderr."""
    print(text, file=sys.stderr, flush=True)


def search(plan: Plan, checkouts: Mapping[str, Path], turn: int, trainings: int) -> dict[str, Found]:
    """Run every tool once.

    Args:
        plan: settings.
        checkouts: directory of each version of nasx.
        turn: seed of the searches.
        trainings: budget of nasx.
    """
    overrides = [*plan.overrides, f"seed={turn}", f"algorithm.evaluations={trainings}"]
    found: dict[str, Found] = {}
    for tool in order(turn, plan):
        with tempfile.TemporaryDirectory() as folder:
            if tool == TPE:
                found[tool] = by_tpe(overrides, found[NASX].seconds, Path(folder))
            else:
                found[tool] = by_nasx(checkouts[tool], overrides, Path(folder))
        done = found[tool]
        front = len(done.recommended)
        report(f"  {tool}: {done.seconds:.1f} s, {done.trainings} trainings ({done.note}), front {front}")
    return found


def measure(plan: Plan, checkouts: Mapping[str, Path], turn: int, trainings: int, known: Mapping[str, Truth]) -> Record:
    """Search with every tool and train the recommended networks again.

    Args:
        plan: settings.
        checkouts: directory of each version of nasx.
        turn: seed of the searches.
        trainings: budget of nasx.
        known: networks that were already trained again in this turn, by arch_id.
    """
    found = search(plan, checkouts, turn, trainings)
    genotypes = {name: genotype for each in found.values() for name, genotype in each.genotypes.items()}
    recommended = {point.arch_id for each in found.values() for point in each.recommended}
    observed = [point for each in found.values() for point in each.observed]
    reference = nearest_to_front(observed, recommended, plan.reference)
    wanted = [*sorted(recommended), *reference]
    started = time.perf_counter()
    missing = {name: genotypes[name] for name in wanted if name not in known}
    fresh = train_again(missing, [*plan.overrides, f"seed={turn}"], turn, plan.fresh_seeds)
    seconds = time.perf_counter() - started
    report(f"  trained again: {len(missing)} networks, {plan.fresh_seeds} times each, in {seconds:.1f} s")
    truth = {**known, **fresh}
    record = {
        "turn": turn,
        "trainings": trainings,
        "revision": revision(),
        "order": order(turn, plan),
        "tools": {tool: {**asdict(each), "genotypes": None} for tool, each in found.items()},
        "truth": {name: asdict(truth[name]) for name in wanted},
        "reference": reference,
        "truth_seconds": seconds,
    }
    return {**record, "verdicts": {tool: plain(verdict) for tool, verdict in verdicts(record).items()}}


def verdicts(record: Record) -> dict[str, Verdict]:
    """Judge the tools of one turn."""
    truth = means(Point(name, *values) for name, each in record["truth"].items() for values in each["values"])
    recommended = {
        tool: [Point(*point) for point in each["recommended"]] for tool, each in sorted(record["tools"].items())
    }
    trained = {tool: {name for name, *_ in each["observed"]} for tool, each in record["tools"].items()}
    return judge(recommended, {point.arch_id: point for point in truth}, trained)


def confirmation(record: Record) -> float:
    """Return the share of a front by all but two fresh trainings that these two confirm; NaN: too few trainings."""
    values = [each["values"] for each in record["truth"].values()]
    least = min(map(len, values))
    if least < 3:
        return math.nan
    return confirmed([costs([Point("", *value) for value in own[:least]]) for own in values])


def plain(verdict: Verdict) -> dict[str, float | None]:
    """Return a verdict as plain data for JSON; NaN is null."""
    values = {**asdict(verdict), "optimism": verdict.optimism}
    return {name: None if math.isnan(value) else value for name, value in values.items()}


def revision() -> str:
    """Return the commit of the working tree; "-dirty" if files differ from it."""
    git = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude=*"]
    return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()


def known_truth(records: Sequence[Record], turn: int) -> dict[str, Truth]:
    """Return the networks that were trained again in this turn for another number of trainings, by arch_id."""
    return {
        name: Truth(tuple(each["genotype"]), tuple((e, i) for e, i in each["values"]), each["failed"])
        for record in records
        if record["turn"] == turn
        for name, each in record["truth"].items()
    }


def read(file: Path | None, plan: Plan) -> list[Record]:
    """Return the turns that the file has; exit if they were measured with other settings."""
    if file is None or not file.exists():
        return []
    content = json.loads(file.read_text())
    if content["plan"] != json.loads(json.dumps(asdict(plan))):
        raise SystemExit(f"{file} was measured with {content['plan']}, not {asdict(plan)}. Name another file.")
    records: list[Record] = content["turns"]
    return records


def write(file: Path | None, plan: Plan, records: Sequence[Record]) -> None:
    """Write all turns to the file."""
    if file is not None:
        content = {"plan": asdict(plan), "summary": summary(records), "turns": records}
        write_atomically(file, (json.dumps(content) + "\n").encode())


def measure_all(plan: Plan, turns: Sequence[int], trainings: Sequence[int], file: Path | None) -> list[Record]:
    """Measure the turns that the file does not contain, and return the records of all turns.

    Args:
        plan: settings.
        turns: seeds.
        trainings: budgets.
        file: JSON file to extend; None: no file.
    """
    records = read(file, plan)
    asked = [(turn, n) for turn in turns for n in trainings]
    missing = [each for each in asked if each not in {(r["turn"], r["trainings"]) for r in records}]
    started, done, work = time.monotonic(), 0, sum(n + OVERHEAD for _, n in missing)
    with ExitStack() as stack:
        checkouts = {NASX: ROOT}
        if plan.released and missing:
            checkouts[RELEASED] = stack.enter_context(worktree(plan.released))
        for turn, n in missing:
            report(f"turn {turn}, {n} trainings")
            records.append(measure(plan, checkouts, turn, n, known_truth(records, turn)))
            write(file, plan, records)
            done += n + OVERHEAD
            elapsed = time.monotonic() - started
            report(f"  elapsed {elapsed / 60:.1f} min, ETA {elapsed * (work / done - 1) / 60:.1f} min")
    by_key = {(r["turn"], r["trainings"]): r for r in records}
    return [by_key[each] for each in asked]


def columns(records: Sequence[Record], tool: str) -> dict[str, list[float]]:
    """Return the figures of one tool by name, one value per turn; NaN: undefined."""
    judged = [verdicts(record)[tool] for record in records]
    found = [record["tools"][tool] for record in records]
    return {
        "seconds": [each["seconds"] for each in found],
        "trainings": [each["trainings"] for each in found],
        "recommended": [each.recommended for each in judged],
        "promised": [each.promised for each in judged],
        "true": [each.true for each in judged],
        "optimism": [each.optimism for each in judged],
        "non-dominated": [each.nondominated for each in judged],
        "non-dominated, own": [each.nondominated_own for each in judged],
        "promised share": [each.promised_share for each in judged],
        "true share": [each.true_share for each in judged],
    }


def tools_of(records: Sequence[Record]) -> list[str]:
    """Return the tools of the records, in the order of the tables."""
    return [tool for tool in (NASX, RELEASED, TPE) if tool in records[0]["tools"]]


def by_budget(records: Sequence[Record]) -> Iterator[tuple[int, list[Record]]]:
    """Yield the number of trainings and its turns, smallest number first."""
    for trainings in sorted({record["trainings"] for record in records}):
        yield trainings, [record for record in records if record["trainings"] == trainings]


def summary(records: Sequence[Record]) -> Record:
    """Summarize over turns, for JSON: by number of trainings, then tool, then figure: [mean, standard deviation]."""

    def null(value: Spread) -> list[float | None]:
        return [None if math.isnan(v) else v for v in value]

    return {
        str(trainings): {
            tool: {name: null(spread(values)) for name, values in columns(turns, tool).items()}
            for tool in tools_of(turns)
        }
        for trainings, turns in by_budget(records)
    }


def turn_table(title: str, records: Sequence[Record]) -> Table:
    """Draw one row per turn and tool."""
    drawn = Table(title=title, title_justify="left")
    drawn.add_column("turn", justify="right")
    drawn.add_column("tool")
    tools = tools_of(records)
    for name in columns(records, tools[0]):
        drawn.add_column(name, justify="right")
    for record in records:
        for tool in tools:
            values = [f"{values[0]:.3g}" for values in columns([record], tool).values()]
            drawn.add_row(str(record["turn"]), tool, *values, end_section=tool == tools[-1])
    return drawn


def summary_table(title: str, records: Sequence[Record]) -> Table:
    """Draw one row per figure, one column per tool: mean and standard deviation over the turns."""
    tools = tools_of(records)
    drawn = Table("", *tools, title=title, title_justify="left")
    found = {tool: columns(records, tool) for tool in tools}
    for name in found[tools[0]]:
        drawn.add_row(name, *(str(spread(found[tool][name])) for tool in tools))
    return drawn


def comparisons(records: Sequence[Record]) -> Iterator[str]:
    """Yield one sentence per other tool and figure: the number of turns in which nasx is ahead, and its mean lead."""
    ours = columns(records, NASX)
    for tool in tools_of(records):
        if tool == NASX:
            continue
        theirs = columns(records, tool)
        for name, text in (("true", "true hypervolume"), ("true share", "share of the true front")):
            pairs = [p for p in zip(ours[name], theirs[name], strict=True) if not any(map(math.isnan, p))]
            if pairs:
                result = duel(*zip(*pairs, strict=True))
                error = "" if math.isnan(result.error) else f" ± {result.error:.3f} (standard error)"
                yield (
                    f"{text}: {NASX} is ahead of {tool} in {result.ahead} of {result.turns} turns, "
                    f"by {result.difference:+.3f}{error} on average"
                )


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m scripts.bench.front_truth",
        description=(__doc__ or "").splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--turns", type=int, default=10)
    parser.add_argument("--trainings", type=int, nargs="+", default=[64, 128], help="budgets of nasx")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="file to append turns to")
    parser.add_argument("--released", default=Plan.released, help="commit to compare with; empty: none")
    parser.add_argument("--reference", type=int, default=Plan.reference, help="networks of the reference set")
    parser.add_argument("--quick", action="store_true", help="1 turn, 8 trainings of 2 epochs, no released version")
    chosen = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # inherited by the retraining processes
    if chosen.quick:
        plan, turns, trainings = QUICK, 1, [8]
    else:
        plan = Plan(released=chosen.released or None, reference=chosen.reference)
        turns, trainings = chosen.turns, chosen.trainings
    records = measure_all(plan, range(chosen.first_seed, chosen.first_seed + turns), trainings, chosen.json)
    console = Console(width=None if sys.stdout.isatty() else 160)
    for n, each in by_budget(records):
        console.print(turn_table(f"{n} trainings, turn by turn", each))
        console.print(summary_table(f"{n} trainings, {len(each)} turns: mean ± standard deviation", each))
        for sentence in comparisons(each):
            console.print(sentence, highlight=False)
        share = spread(map(confirmation, each))
        console.print(f"a front chosen by fresh trainings is confirmed by two others in {share}", highlight=False)
        console.print()


if __name__ == "__main__":
    main()
