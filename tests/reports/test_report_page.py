"""Report in a real browser: headless Chromium, controlled by playwright. Skipped if either is missing."""

from __future__ import annotations

import json
import os
import re
import shutil
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest

from nasx.reports.html.run_data import run_data
from nasx.reports.html.run_page import run_page
from nasx.reports.html.server import Report, Server
from nasx.trial import Evaluation, Reason
from tests.factories.report_inputs import make_info, make_report_input, with_lineage
from tests.factories.trials import make_noisy_run, make_run, make_trial

sync_api = pytest.importorskip("playwright.sync_api", reason="browser tests need: pip install -e '.[browser]'")
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
if CHROMIUM is None:
    pytest.skip("browser tests need Chromium: apt-get install chromium, or CHROMIUM=PATH", allow_module_level=True)

# the axe-core that axe-playwright-python brings
AXE = Path(
    pytest.importorskip("axe_playwright_python", reason="browser tests need: pip install -e '.[browser]'").__file__
)
HOSTILE = "</script><script>window.hacked=1</script><img src=x onerror='window.hacked=1'>&amp;{{ 7*7 }}"
WIDTHS = (390, 820, 1280)  # pixels of a phone, a tablet, a desktop


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        # root cannot use the sandbox; only our own pages are opened
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


class Reader:
    """Open page with its console messages, errors and foreign requests."""

    def __init__(self, page):
        self.page = page
        self.complaints = []
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("request", self._note)

    def _note(self, request):
        if not request.url.startswith(("file:", "data:", "http://127.0.0.1")):
            self.complaints.append(f"requests {request.url}")

    def click_point(self, chart, arch_id):
        """Move the mouse to the point of a network; return a function that clicks it."""
        self.page.locator(f"#{chart}").scroll_into_view_if_needed()
        self.page.wait_for_selector(f"#{chart} .main-svg")
        place = self.page.evaluate(PLACE_OF_POINT, [chart, arch_id])
        self.page.mouse.move(place["x"] + 1, place["y"])
        self.page.mouse.move(place["x"], place["y"])
        self.page.wait_for_timeout(60)  # plotly throttles mouse events
        return lambda: self.page.mouse.click(place["x"], place["y"])

    def points(self, chart):
        """Return the ids of the networks that a chart draws."""
        script = "id => document.getElementById(id).data.flatMap(t => t.name === 'open' ? [] : t.customdata ?? [])"
        return set(self.page.evaluate(script, chart))

    def opened(self):
        return [h.inner_text().removeprefix("Network ") for h in self.page.locator("#panels h3").all()]


PLACE_OF_POINT = """([chart, id]) => {
  const div = document.getElementById(chart), {xaxis, yaxis} = div._fullLayout, box = div.getBoundingClientRect();
  const trace = div.data.find((t) => t.customdata?.includes(id)), i = trace.customdata.indexOf(id);
  return {x: box.x + xaxis._offset + xaxis.d2p(trace.x[i]), y: box.y + yaxis._offset + yaxis.d2p(trace.y[i])};
}"""


RESET = """() => {
  opened.splice(0); comparing = false; rememberOpen();
  document.querySelectorAll("details[open]").forEach((d) => { if (!d.closest("#panels")) d.open = false; });
  document.querySelectorAll("select").forEach((s) => {
    s.value = [...s.options].find((o) => o.defaultSelected).value;
  });
  byElementId("filters").reset(); // redraws
  scrollTo(0, 0);
}"""


@pytest.fixture(scope="module")
def report_input(tmp_path_factory):
    return make_report_input(64, directory=tmp_path_factory.mktemp("figures"), explained=2)


@pytest.fixture(scope="module")
def data(report_input):
    return run_data(report_input)


@pytest.fixture(scope="module")
def desk(browser, data, tmp_path_factory):
    """Open the report of 64 networks once: opening takes a second."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(run_page(data))
    context = browser.new_context(
        viewport={"width": 1280, "height": 900}, permissions=["clipboard-read", "clipboard-write"]
    )
    reader = Reader(context.new_page())
    reader.page.goto(path.as_uri())
    yield reader
    context.close()


@pytest.fixture
def reader(desk):
    """Return the report in its initial state; fail if the browser reported anything."""
    desk.page.evaluate(RESET)
    yield desk
    assert desk.complaints == []


@pytest.fixture
def read(browser, tmp_path):
    """Return a function that opens a report in its own window; fail if the browser reported anything."""
    contexts, readers = [], []

    def open_report(report_input, *, width=1280, **context):
        path = tmp_path / "report.html"
        path.write_text(run_page(run_data(report_input)))
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}, **context))
        readers.append(Reader(contexts[-1].new_page()))
        readers[-1].page.goto(path.as_uri())
        return readers[-1]

    yield open_report
    for context in contexts:
        context.close()
    assert [complaint for reader in readers for complaint in reader.complaints] == []


def severe(reader):
    """Return the serious and critical findings of axe-core. Charts are excluded: they are images with a label."""
    reader.page.evaluate((AXE.parent / "axe.min.js").read_text())
    found = reader.page.evaluate("axe.run({exclude: ['.main-svg']}, {resultTypes: ['violations']})")
    assert found["passes"]
    return [(v["id"], v["nodes"][0]["html"]) for v in found["violations"] if v["impact"] in ("serious", "critical")]


def test_hovering_a_point_draws_its_cell(reader, data):
    reader.click_point("front-chart", data["knee"])
    preview = reader.page.locator("#preview")

    assert data["knee"] in preview.inner_text()
    assert "null" not in preview.inner_text()
    assert preview.locator("svg.cell path").count() >= 2
    reader.page.mouse.move(2, 2)
    preview.wait_for(state="hidden")


@pytest.mark.parametrize("chart", ["front-chart", "time-chart", "costs-macs", "phylogeny-chart", "paper-chart"])
def test_clicking_a_point_opens_its_network(reader, data, chart):
    arch_id = data["paper"]["ours"][0][2] if chart == "paper-chart" else data["front"][0]
    reader.click_point(chart, arch_id)()

    assert reader.opened() == [arch_id]


def test_a_panel_has_all_details_of_its_network(reader, data):
    arch_id = next(iter(data["figures"]))
    reader.page.evaluate("id => openNetwork(id)", arch_id)
    text = reader.page.locator("#panels").inner_text()

    assert "validation error" in text
    assert "Introspectability by shap" in text
    assert re.search(r"Closest: \d and \d \(0\.\d\d\)", text)
    assert "stage1" in text
    assert f"nasx explain --run-dir runs/made_up --arch-id {arch_id}" in text
    assert reader.page.locator("#panels img").evaluate_all("all => all.every(i => i.complete && i.naturalWidth > 500)")


def test_two_networks_are_side_by_side_with_their_differences(reader, data):
    first, second = data["front"][:2]
    reader.click_point("front-chart", first)()
    reader.page.get_by_role("button", name="Compare with another network").click()
    reader.click_point("front-chart", second)()

    assert reader.opened() == [first, second]
    left, right = (panel.bounding_box() for panel in reader.page.locator(".panel").all())
    assert left["y"] == right["y"]
    assert f"difference from {first}" in reader.page.locator(".panel").nth(1).inner_text().replace("\n", " ")
    assert reader.page.url.endswith(f"#open={first},{second}")


def test_the_address_stores_the_open_networks(reader, data):
    reader.page.evaluate("id => openNetwork(id)", data["front"][0])
    reader.page.reload()

    assert reader.opened() == [data["front"][0]]


def test_a_panel_can_be_closed(reader, data):
    reader.page.evaluate("id => openNetwork(id)", data["front"][0])
    reader.page.get_by_role("button", name=f"Close network {data['front'][0]}").click()

    assert reader.opened() == []


def test_a_command_is_copied_with_the_id_filled_in(reader, data):
    reader.page.evaluate("id => openNetwork(id)", data["knee"])
    button = reader.page.locator("#panels").get_by_role("button", name="Copy: nasx explain")
    button.click()

    sync_api.expect(button).to_have_text("Copied")
    copied = reader.page.evaluate("navigator.clipboard.readText()")
    assert copied == f"nasx explain --run-dir runs/made_up --arch-id {data['knee']}"


def expected(data, keep):
    return {n["id"] for n in data["networks"] if keep(n)}


def test_the_filter_of_status_holds_for_every_view(reader, data):
    reader.page.get_by_label("failed").uncheck()
    reader.page.get_by_label("infeasible").uncheck()
    reader.page.evaluate("drawAllCharts()")
    complete = expected(data, lambda n: n["status"] == "complete")

    assert reader.points("time-chart") == complete
    assert reader.page.locator("#shown").inner_text() == f"{len(complete)} of 64 networks shown"
    assert "None among the networks shown" in reader.page.locator("#failures").inner_text()


def test_the_filter_of_generation_holds_for_the_front(reader, data):
    reader.page.get_by_label("generation, at least").fill("2")

    late = expected(data, lambda n: n["generation"] >= 2 and n["status"] == "complete")
    assert reader.points("front-chart") == late


def test_the_filter_of_an_objective_is_in_the_unit_shown(reader, data):
    reader.page.get_by_label("validation error (%), at most").fill("5")
    reader.page.get_by_label("introspectability, at least").fill("0.7")

    good = expected(data, lambda n: n["metrics"].get("error", 1) <= 0.05 and n["metrics"]["introspectability"] >= 0.7)
    assert good
    assert reader.points("front-chart") == good
    reader.page.get_by_role("button", name="Show all").click()
    assert reader.page.locator("#shown").inner_text() == "All 64 networks shown"


def test_any_metric_can_be_an_axis(reader):
    reader.page.locator("#front-x").select_option("parameters")

    title = reader.page.evaluate("document.getElementById('front-chart').layout.xaxis.title.text")
    assert title == "← parameters, lower is better"


def test_every_chart_has_its_data_as_a_table(reader, data):
    for chart in reader.page.locator(".chart").all():
        if not chart.is_visible():
            continue
        assert chart.get_attribute("aria-label")
        details = chart.locator("xpath=following-sibling::details[1]")
        details.locator("summary").click()
        details.locator("tbody tr").first.wait_for()
    front = reader.page.locator("#front table tbody tr")
    assert front.count() == 64
    assert data["knee"] in front.first.inner_text()


def test_the_keyboard_is_enough_to_open_a_network(reader, data):
    reader.page.locator("#front summary").focus()
    reader.page.keyboard.press("Enter")
    reader.page.wait_for_selector("#front tbody button")
    for _ in range(3):  # a scrollable table takes the focus too
        reader.page.keyboard.press("Tab")
        if reader.page.evaluate("document.activeElement.matches('#front tbody button')"):
            break
    reader.page.keyboard.press("Enter")
    reader.page.wait_for_selector(f"#network-{data['knee']}")

    assert reader.opened() == [data["knee"]]
    assert reader.page.evaluate("document.activeElement.id") == f"network-{data['knee']}"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_in_either_theme_and_the_switch_changes_it(read, scheme):
    small = make_report_input(trials=make_run(24)[14:])  # with failures; axe checks every cell of every table
    reader = read(small, color_scheme=scheme)
    reader.page.evaluate("openNetwork(report.front[0]); comparing = true; openNetwork(report.networks.at(-1).id)")
    reader.page.evaluate("drawAllCharts(); document.querySelector('#front details').open = true")
    reader.page.wait_for_selector("#front tbody button")
    assert severe(reader) == []

    background = "getComputedStyle(document.body).backgroundColor"
    before = reader.page.evaluate(background)
    reader.page.locator("#theme").click()
    assert {before, reader.page.evaluate(background)} == {"rgb(255, 255, 255)", "rgb(20, 23, 27)"}
    assert (before == "rgb(255, 255, 255)") == (scheme == "light")


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_overflows_at_any_width(reader, data, width):
    reader.page.set_viewport_size({"width": width, "height": 900})
    reader.page.evaluate("ids => { openNetwork(ids[0]); comparing = true; openNetwork(ids[1]); }", data["front"])

    # charts are resized with a delay
    reader.page.wait_for_function("width => document.documentElement.scrollWidth <= width", arg=width)
    if folder := os.environ.get("NASX_SCREENSHOTS"):  # for visual inspection
        reader.page.evaluate("drawAllCharts(); scrollTo(0, 0)")
        reader.page.screenshot(path=Path(folder) / f"report_{width}.png", full_page=True)


def test_in_print_every_chart_is_drawn_in_the_light_theme(reader):
    reader.page.emulate_media(color_scheme="dark")
    # a resize just before, which plotly defers by 0.1 s, must not undo the print width
    reader.page.evaluate("dispatchEvent(new Event('resize')); dispatchEvent(new Event('beforeprint'))")
    drawn = reader.page.evaluate(
        "[...document.querySelectorAll('.chart')].filter(c => c.offsetParent && !c.data).length"
    )

    assert drawn == 0
    assert reader.page.evaluate("document.documentElement.dataset.theme") == "light"
    width = "document.querySelector('#front-chart .main-svg').getBoundingClientRect().width"
    reader.page.wait_for_timeout(300)
    assert reader.page.evaluate(width) < 680  # A4 less its margins
    reader.page.evaluate("dispatchEvent(new Event('afterprint'))")
    reader.page.wait_for_function(f"() => {width} > 1000")


def test_hostile_names_stay_text(read):
    failed = Evaluation.failed(Reason.ERROR, HOSTILE)
    trials = [*with_lineage(make_run(32))[:-1], make_trial(99, evaluation=failed)]
    info = make_info(name=HOSTILE, class_names=(HOSTILE, *"123456789"))
    commands = [{"text": HOSTILE, "purpose": HOSTILE, "needs_weights": False}]
    report_input = make_report_input(
        trials=trials,
        info=info,
        run_dir=HOSTILE,
        config=HOSTILE,
        reproduce=[HOSTILE],
        commands=commands,
        traits={t.arch_id: [HOSTILE] for t in trials},
    )
    reader = read(report_input)
    reader.page.evaluate("openNetwork(report.front[0]); drawAllCharts()")

    assert reader.page.locator("#title").inner_text() == HOSTILE
    assert reader.page.evaluate("window.hacked") is None
    assert HOSTILE in reader.page.locator("#config").text_content()
    assert reader.page.locator("img[src=x]").count() == 0


def test_a_script_in_the_data_is_blocked(reader):
    reader.page.evaluate(
        "document.body.append(Object.assign(document.createElement('script'), {text: 'window.hacked = 1'}))"
    )

    assert reader.page.evaluate("window.hacked") is None
    assert any("Content Security Policy" in complaint for complaint in reader.complaints)
    reader.complaints.clear()


KINDS = {
    "no trial yet": lambda: make_report_input(trials=[]),
    "everything failed": lambda: make_report_input(
        trials=[make_trial(i, evaluation=Evaluation.failed(Reason.ERROR, "broken")) for i in range(3)]
    ),
    "one network": lambda: make_report_input(trials=[make_trial(0, error=0.1, introspectability=0.2)]),
    "one objective": lambda: make_report_input(32, info=make_info(objectives=("error",))),
    "three objectives": lambda: make_report_input(
        32, info=make_info(objectives=("error", "introspectability", "macs"))
    ),
    "no cells": lambda: make_report_input(32, edges={}, traits={}),
    "from a table": lambda: make_report_input(
        trials=[make_trial(i, error=0.1 + 0.01 * i, parameters=9000 - i) for i in range(30)],
        info=make_info(objectives=("error", "parameters"), class_names=()),
        trained=frozenset(),
        dataset="",
    ),
    "estimates": lambda: make_report_input(trials=make_noisy_run()),
    "estimates, exact objective": lambda: make_report_input(
        trials=make_noisy_run(), info=make_info(objectives=("error", "introspectability", "parameters"))
    ),
    "replicates": lambda: make_report_input(
        trials=[
            make_trial(i, error=0.1 * i + 0.01 * r, introspectability=0.2 * i + 0.02 * r, replicate=r)
            for i in range(1, 5)
            for r in range(3)
        ]
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_run_has_a_page_without_complaints(read, kind):
    reader = read(KINDS[kind]())
    reader.page.evaluate("drawAllCharts(); for (const {id} of report.networks.slice(0, 2)) openNetwork(id)")

    assert reader.page.locator("#front-chart .main-svg").count() > 0


@contextmanager
def serving(report):
    with Server(report, 0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.address
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("at_first", [0, 32])
def test_a_served_page_follows_its_search(browser, at_first):
    trials = with_lineage(make_run(64))
    state = {"n": at_first}

    def data():
        return run_data(make_report_input(trials=trials[: state["n"]]))

    with serving(
        Report(lambda: run_page(data(), live=True), lambda: json.dumps(data()), lambda: state["n"])
    ) as address:
        context = browser.new_context()
        reader = Reader(context.new_page())
        reader.page.clock.install()
        reader.page.goto(address)
        sync_api.expect(reader.page.locator("#shown")).to_have_text(f"All {at_first} networks shown")
        if at_first:
            reader.page.evaluate("openNetwork(report.networks[3].id)")
        state["n"] = 64
        reader.page.clock.run_for(4_000)
        sync_api.expect(reader.page.locator("#shown")).to_have_text("All 64 networks shown")
        assert len(reader.opened()) == (1 if at_first else 0)
        reader.page.wait_for_function("() => document.querySelectorAll('#front-x option').length > 3")
        assert reader.complaints == []
        context.close()


def test_the_front_has_intervals_and_its_tables_uncertainty_and_trainings(read):
    trials = make_noisy_run()
    reader = read(make_report_input(trials=trials))
    data = run_data(make_report_input(trials=trials))
    reader.page.evaluate("drawAllCharts()")

    assert reader.page.locator("#front-chart .errorbar").count() == len(data["front"])
    assert "of it is certain: the true values reach it with probability 95 %" in reader.page.inner_text("#summary")
    assert "Noise of one training" in reader.page.inner_text("#summary")
    assert "front, trained once" in reader.page.inner_text("#front-chart")

    reader.page.locator("#front-chart + details summary").click()
    knee = next(n for n in data["networks"] if n["id"] == data["knee"])
    row = reader.page.locator("#front-chart + details tbody tr").first.inner_text().replace("\u00a0", " ")
    assert f"{100 * knee['metrics']['error']:.2f} ± {100 * knee['std']['error']:.2f} %" in row
    assert f"{100 * knee['p_front']:.0f} %" in row

    reader.page.evaluate("id => openNetwork(id)", data["knee"])
    figures = reader.page.inner_text(".panel table").replace("\u00a0", " ")
    assert "mean of its trainings" in figures
    assert f"{100 * knee['observed']['error']:.2f} %" in figures


def test_without_javascript_the_front_is_a_table(read, report_input, data):
    reader = read(report_input, java_script_enabled=False)

    assert data["knee"] in reader.page.locator("noscript").inner_text()
