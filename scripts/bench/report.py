"""Build time, size and opening time of the report of a large run.

    python -m scripts.bench.report [--trials 2000] [--explained 10] [--rounds 3]

Trials, distances and figures are synthetic, of realistic size. Targets: built in 10 s, at most 8 MB, opened in 2 s
(from the start of loading until the front is drawn and the page responds). Opening needs Chromium and the extra
`browser`.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from pathlib import Path
from statistics import median

from nasx.reports.html.load import FIGURES, ReportInput, load_figures
from nasx.reports.html.run_data import run_data
from nasx.reports.html.run_page import json_in_html, run_page
from tests.factories.report_inputs import make_figure, make_report_input, with_lineage
from tests.factories.trials import make_run


def large_run(n_trials: int, n_explained: int, directory: Path) -> tuple[ReportInput, float]:
    """Return a run and the seconds to read its figures."""
    material = make_report_input(trials=with_lineage(make_run(n_trials)))
    complete = [t.arch_id for t in material.trials if t.is_complete][:n_explained]
    for i, arch_id in enumerate(complete):
        for folder, files in FIGURES.items():
            for name in files:
                # average size of the seven figures of a network on the digits: 38 kB each, after shrinking
                make_figure(directory / arch_id / folder / name, size=(1520, 1400), seed=i, noise=10)
    started = time.perf_counter()
    figures = {arch_id: load_figures(directory / arch_id) for arch_id in complete}
    seconds = time.perf_counter() - started
    return make_report_input(trials=material.trials, figures=figures), seconds


def opening(page: Path, rounds: int) -> list[float]:
    """Return the seconds to open the page in a running browser, until the front is drawn and the page responds."""
    from playwright.sync_api import sync_playwright  # needs the extra `browser`

    found = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for _ in range(rounds):
            tab = browser.new_page()
            started = time.perf_counter()
            tab.goto(page.as_uri())
            tab.wait_for_selector("#front-chart .main-svg")
            tab.evaluate("document.getElementById('shown').textContent")
            found.append(time.perf_counter() - started)
            tab.close()
        browser.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--explained", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        material, shrinking = large_run(arguments.trials, arguments.explained, Path(directory))
        started = time.perf_counter()
        data = run_data(material)
        gathered = time.perf_counter()
        text = run_page(data)
        done = time.perf_counter()
        page = Path(directory) / "report.html"
        page.write_text(text)
        print(f"{arguments.trials:,} trials, {arguments.explained} explained networks")
        print(f"built in      {shrinking + done - started:.2f} s", end=" ")
        print(f"(figures {shrinking:.2f}, data {gathered - started:.2f}, page {done - gathered:.2f})")
        parts = {"data": len(json_in_html(data | {"figures": {}})), "figures": len(json_in_html(data["figures"]))}
        sizes = ", ".join(f"{name} {size / 1e6:.2f}" for name, size in parts.items())
        print(f"size          {page.stat().st_size / 1e6:.2f} MB ({sizes})")
        times = opening(page, arguments.rounds)
        print(f"opened in     {median(times):.2f} s (median of {len(times)}; {min(times):.2f} to {max(times):.2f})")


if __name__ == "__main__":
    main()
