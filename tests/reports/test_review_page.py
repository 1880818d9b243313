"""Review page in a real browser: keyboard, kept state, CSV that corrections accept, accessibility."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from nasx.data.corrected import apply
from nasx.data.corrections import Action, parse_corrections
from nasx.data.dataset import LabeledImages
from nasx.diagnostics.suspects import rank_suspects
from nasx.reports.review_page import review_page

HOSTILE = "</script><script>window.hacked=1</script>"
CLASSES = ("cat", '=dog, "the" best', "שלום", *(f"kind {i}" for i in range(3, 12)))
FILES = ("cat/a,b.jpg", 'cat/"q".jpg', "=SUM(A1).jpg", f"cat/{HOSTILE}.jpg", "שלום/תמונה.jpg", "cat/plain.jpg")


def make_suspects(class_names=CLASSES, files=FILES, n=6):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (n, 3, 16, 16), dtype=np.uint8)
    shares = np.full((n, len(class_names)), 0.3 / (len(class_names) - 1))
    shares[:, 1] = 0.7 + 0.01 * np.arange(n)
    images = LabeledImages(pixels, np.zeros(n, dtype=np.int64), class_names, files=files)
    return rank_suspects(images, None, shares, np.linspace(1, 0, n), out_of_sample=np.ones(n, dtype=bool))


def make_page(suspects=None, **changes):
    settings = {"title": "tiny: review", "key": "run net", "command": "nasx search ... x=1", "limit": 200, **changes}
    return review_page(suspects or make_suspects(), **settings)


def items_of(page):
    return json.loads(page.partition('id="data">')[2].partition("</script>")[0])["items"]


def test_images_that_a_person_has_decided_on_are_not_shown_again():
    shown = items_of(make_page(reviewed={0, 3}))
    assert sorted(item["name"] for item in shown) == sorted(FILES[i] for i in (1, 2, 4, 5))


def test_the_limit_and_the_size_of_the_page_are_kept():
    assert len(items_of(make_page(limit=2))) == 2
    rng = np.random.default_rng(0)
    suspects = make_suspects(files=tuple(map(str, range(150))), n=150)
    page = make_page(suspects, picture=lambda i, side: rng.integers(0, 256, (3, side, side), dtype=np.uint8))
    assert len(items_of(page)) == 150
    assert 1_000_000 < len(page) < 8_000_000


def test_names_from_outside_stay_text():
    page = make_page(title=HOSTILE, command=HOSTILE)
    assert "<script>window" not in page


class Dataset:
    name, augmentation = "own", None


def corrected(content):
    suspects = make_suspects()
    return apply(parse_corrections(content, "corrections.csv"), Dataset(), suspects.train), suspects


sync_api = pytest.importorskip("playwright.sync_api", reason="browser tests need: pip install 'nasx[browser]'")
CHROMIUM = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
if CHROMIUM is None:
    pytest.skip("browser tests need Chromium: apt-get install chromium, or CHROMIUM=PATH", allow_module_level=True)
AXE = Path(
    pytest.importorskip("axe_playwright_python", reason="browser tests need: pip install 'nasx[browser]'").__file__
)


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(browser, tmp_path):
    """Return a function that opens the page from a file, in one context: its storage is kept."""
    context = browser.new_context(viewport={"width": 390, "height": 800}, accept_downloads=True)
    complaints = []

    def open_page(**changes):
        file = tmp_path / "review.html"
        file.write_text(make_page(**changes), "utf-8")
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(file.as_uri())
        return page

    yield open_page
    context.close()
    assert complaints == []


def saved(page):
    with page.expect_download() as download:
        page.click("#save")
    return Path(download.value.path()).read_bytes()


def test_a_review_by_keyboard_saves_a_file_that_corrections_accept(opened):
    page = opened()
    order = [item["name"] for item in items_of(make_page())]
    page.keyboard.press("Enter")  # to the suggested class
    page.keyboard.press("d")
    page.keyboard.press("k")
    page.keyboard.press("2")  # the second of the list
    page.keyboard.press("r")
    page.keyboard.type("kind 11")
    page.keyboard.press("Enter")

    assert page.inner_text("#progress").startswith("5 of 6 reviewed")
    applied, suspects = corrected(saved(page))
    assert len(applied.others) == 0
    labels = {name: CLASSES[label] for name, label in zip(suspects.train.files, applied.labels, strict=True)}
    dropped = {name for name, gone in zip(suspects.train.files, applied.is_dropped, strict=True) if gone}
    assert labels[order[0]] == CLASSES[1]
    assert dropped == {order[1]}
    assert applied.is_confirmed[suspects.train.files.index(order[2])]
    assert labels[order[3]] == CLASSES[2]
    assert labels[order[4]] == "kind 11"
    assert not page.evaluate("window.hacked")


def test_undo_takes_decisions_back_one_by_one(opened):
    page = opened()
    for key in "kdu":
        page.keyboard.press(key)
    assert page.inner_text("#progress") == "1 of 6 reviewed; image 2"
    page.keyboard.press("u")
    assert page.inner_text("#progress") == "0 of 6 reviewed; image 1"
    assert saved(page) == b"image,action,label,reason\n"


def test_a_reload_loses_nothing_and_another_network_has_its_own_review(opened):
    opened().keyboard.press("k")
    page = opened()
    assert page.inner_text("#progress").startswith("1 of 6")
    assert opened(key="run other").inner_text("#progress").startswith("0 of 6")


def test_an_earlier_file_is_continued_and_rows_on_other_images_are_kept(opened, tmp_path):
    page = opened(earlier=[("cat/elsewhere.jpg", "drop", "")])
    file = tmp_path / "earlier.csv"
    file.write_text('\ufeffimage;action;label;reason\n"cat/""q"".jpg";relabel;שלום;blurred\n7.jpg;keep;;\n', "utf-8")
    page.set_input_files("#load", file)
    page.wait_for_function("document.getElementById('notice').textContent")

    assert page.inner_text("#progress").startswith("1 of 6")
    rows = {row.image: row for row in parse_corrections(saved(page), "x").decisions}
    assert rows['cat/"q".jpg'].label == "שלום"
    assert rows["cat/elsewhere.jpg"].action is Action.DROP
    assert rows["7.jpg"].action is Action.KEEP


def test_a_reason_that_looks_like_a_formula_is_defused(opened):
    page = opened()
    page.fill("#reason", '=1+1, "x"')
    page.keyboard.press("Escape")
    page.keyboard.press("d")
    assert b"""drop,,"'=1+1, ""x\""\"""" in saved(page)


def test_without_storage_the_page_works_and_says_that_it_keeps_nothing(opened, tmp_path):
    page = opened()
    page.add_init_script("Object.defineProperty(window, 'localStorage', {get() { throw new Error('denied') }})")
    page.reload()
    page.keyboard.press("k")
    page.keyboard.press("ArrowLeft")

    assert page.inner_text("#progress").startswith("1 of 6")
    assert b"keep" in saved(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("n_classes", [2, 100])
def test_axe_finds_nothing_and_nothing_sticks_out(opened, scheme, n_classes):
    names = tuple(f"a class with a rather long name {i}" for i in range(n_classes))
    page = opened(suspects=make_suspects(names))
    page.emulate_media(color_scheme=scheme)
    page.evaluate((AXE.parent / "axe.min.js").read_text())
    found = page.evaluate("axe.run({resultTypes: ['violations']})")

    assert [(v["id"], v["nodes"][0]["html"]) for v in found["violations"]] == []
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_help_opens_and_closes_with_the_keyboard(opened):
    page = opened()
    page.keyboard.press("?")
    assert page.is_visible("#keys")
    page.keyboard.press("k")  # no decision behind the help
    page.keyboard.press("Escape")
    assert not page.is_visible("#keys")
    assert page.inner_text("#progress").startswith("0 of 6")


def test_a_page_without_suspects_says_so(opened):
    page = opened(reviewed=set(range(6)))
    page.keyboard.press("k")
    assert page.inner_text("#progress") == "There are no suspects to review."
