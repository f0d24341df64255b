"""The page of a 60-job sweep in headless Chromium: sort, filter, sliders, clicks, copying, and nothing asked of a network."""

from __future__ import annotations

import importlib.util
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diffsde.report.page import write_page
from tests.page_fixtures import EVIL, comparison

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ABSENT = None if importlib.util.find_spec("playwright") else "playwright is not installed (pip install '.[dev]')"
ABSENT = ABSENT or (None if CHROMIUM else "there is no Chromium on this machine")
pytestmark = pytest.mark.skipif(ABSENT is not None, reason=str(ABSENT))
FLAGS = "no-sandbox disable-gpu disable-quic no-first-run disable-background-networking disable-component-update disable-sync"


class Opened:
    """The page in a browser, and what the browser said and asked for meanwhile."""

    def __init__(self, browser: Any, file: Path, **how: Any):
        self.page = browser.new_context(**how).new_page()
        self.page.set_default_timeout(20_000)
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        session = self.page.context.new_cdp_session(self.page)
        session.send("Performance.enable", {"timeDomain": "threadTicks"})
        self.page.goto(f"file://{file}")
        self.page.wait_for_selector("html[data-ready=yes]")
        self.pixels("left")
        measured = session.send("Performance.getMetrics")["metrics"]
        self.cpu_seconds = next(each["value"] for each in measured if each["name"] == "ThreadTime")

    def column(self, number: int) -> list[str]:
        """The cells of a column of the table, top down, without what is small in them."""
        return self.page.eval_on_selector_all(
            f"#table tbody td:nth-child({number})", "cells => cells.map((cell) => cell.firstChild?.textContent ?? '')"
        )

    def pixels(self, side: str) -> str:
        """What a panel of the player shows, after the next frame."""
        self.page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        return self.page.evaluate(f"document.getElementById('{side}-canvas').toDataURL()")

    def wait(self, expression: str) -> None:
        """Until an expression holds; by asking, since the page's policy forbids what playwright would put into it."""
        until = time.monotonic() + 5
        while not self.page.evaluate(expression):
            assert time.monotonic() < until, f"never: {expression}"
            self.page.wait_for_timeout(20)

    def move(self, slider: str, value: float) -> None:
        self.page.locator(slider).fill(str(value))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=CHROMIUM, args=[f"--{flag}" for flag in FLAGS.split()])
        yield running
        running.close()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("report")
    from matplotlib.figure import Figure

    Figure((2, 2)).savefig(where / "picture.png")
    return write_page(comparison(where), where)


@pytest.fixture(scope="module")
def opened(browser: Any, file: Path) -> Iterator[Opened]:
    """One page for all tests, which leave it as it was enough."""
    found = Opened(browser, file, viewport={"width": 1280, "height": 900})
    yield found
    assert found.said == [], "the console stays empty, whatever was done"
    assert {url for url in found.asked if not url.startswith(("data:", "blob:"))} == {f"file://{file}"}


@pytest.mark.slow
def test_it_is_small_and_soon_there(opened: Opened, file: Path) -> None:
    assert file.stat().st_size < 6_000_000
    assert opened.cpu_seconds < 2, (
        f"the page took {opened.cpu_seconds:.1f} s of its one thread"
    )  # 0.4 where it was written
    assert len(opened.column(1)) == 60


def test_markup_is_text(opened: Opened) -> None:
    assert opened.page.evaluate("window.hit") is None
    assert opened.page.text_content("h1") == EVIL == opened.page.title()
    assert set(opened.column(1)) == {"ot", EVIL}
    opened.page.locator("#runs details summary").first.click()
    assert EVIL in str(opened.page.text_content("#runs details .run pre >> nth=0")).replace("'\"'\"'", "'")
    assert "<b>" in str(opened.page.text_content("#plot .ytitle")) and "<script>" in str(
        opened.page.text_content("#plot")
    )
    assert opened.page.locator("#runs i, #table img, #plot b").count() == 0


def test_a_column_is_sorted_by_its_title(opened: Opened) -> None:
    """As numbers, not as text; down at the second click; by the keyboard; rows without the figure last either way."""
    header = opened.page.locator("#table th", has_text="steps")
    header.locator("button").click()
    assert opened.column(2) == [str(5 * i + 5) for i in range(60)]
    assert opened.page.locator("#table th[aria-sort=ascending]").count() == 1
    opened.page.keyboard.press("Enter")  # the title keeps the focus
    assert opened.column(2)[0] == "300"
    time_title = opened.page.locator("#table th button", has_text="time")
    for _ in range(2):
        time_title.click()
        assert opened.column(4)[-1] == ""
    assert opened.column(4)[0] == "59"
    assert opened.page.locator("#table td.best").count() == 1
    assert "★ 4.100 ± 0.050" in str(opened.page.text_content("#table td.best"))


def test_the_filter_takes_words(opened: Opened) -> None:
    """All of them hold; the chart's points, the samples and the list of runs follow."""
    points = "document.querySelectorAll('#plot .point').length"
    for words, rows in (("path=ot steps>100", 20), ("w2<=4.2", 2), ("nonsense", 0), ("PATH=OT", 30), ("", 60)):
        opened.page.fill("#filter", words)
        assert len(opened.column(1)) == rows, words
        assert opened.page.locator("#runs details:not([hidden])").count() == rows
        assert opened.page.locator("#cell-grid .tile:not([hidden])").count() == rows
        opened.wait(f"{points} === {rows}")


def test_the_legend_names_each_line(opened: Opened) -> None:
    """Of few lines all choices but the one along the axis: no two have one name."""
    opened.page.select_option("#chart-x", "key:steps")
    opened.page.select_option("#chart-by", "")
    names = "[...document.querySelectorAll('#plot .legendtext')].map((each) => each.textContent)"
    lines = "document.querySelectorAll('#plot .scatterlayer .trace').length"
    opened.wait(f"{lines} === 2")
    opened.wait(f"{names}.length === {lines} && new Set({names}).size === {lines}")


def test_sliders_move_the_cloud(opened: Opened) -> None:
    """t both panels, sigma the SDE's alone; at sigma = 0 it is the ODE, and halfway between two sigmas halfway between."""
    opened.page.select_option("#left", "conditional")
    opened.move("#t", 64)
    early = opened.pixels("left"), opened.pixels("right")
    opened.move("#t", 100)
    late = opened.pixels("left"), opened.pixels("right")
    assert early[0] != late[0] and early[1] != late[1]
    opened.move("#sigma", 1.5)
    assert opened.pixels("left") == late[0] and opened.pixels("right") != late[1]
    opened.move("#sigma", 0)
    opened.page.select_option("#left", "ode")
    assert opened.pixels("left") == opened.pixels("right")
    at = "(s) => { const p = Cloud.read(JSON.parse(document.getElementById('data').textContent).players[0]);"
    at += "return [0, 9, 50].map((i) => Cloud.at(p, 'sde', s, 20, i, 1)); }"
    low, high, half = (np.array(opened.page.evaluate(at, sigma)) for sigma in (1.0, 2.0, 1.5))
    np.testing.assert_allclose(half, (low + high) / 2, rtol=1e-12)
    assert (low != high).all()
    moved = """() => { const p = Cloud.read(JSON.parse(document.getElementById('data').textContent).players[0]);
      const all = (s) => Array.from({ length: p.n }, (_, i) => Cloud.at(p, 'sde', s, 4, i, 0) - Cloud.at(p, 'ode', 0, 4, i, 0));
      return [all(1), all(2)]; }"""
    assert np.corrcoef(opened.page.evaluate(moved))[0, 1] > 0.95  # one noise for all sigmas


def test_it_plays(opened: Opened) -> None:
    opened.move("#t", 0)
    opened.page.click("#play")
    opened.wait("Player.now().node > 2")
    opened.page.click("#play")
    node = opened.page.evaluate("Player.now().node")
    opened.pixels("left")
    assert opened.page.evaluate("Player.now().node") == node > 0


def test_a_click_launches_the_ode_and_the_sde(opened: Opened) -> None:
    """By mouse and by keyboard from the same point; the ODE ends on a mode of the data; another sigma bends the SDE's paths."""
    opened.move("#t", 64)
    opened.move("#sigma", 1)
    opened.page.select_option("#right", "sde")
    canvas = opened.page.locator("#right-canvas")
    box = canvas.bounding_box()
    assert box is not None
    canvas.click(position={"x": box["width"] * 0.68, "y": box["height"] / 2})
    by_mouse = opened.page.text_content("#click")
    assert "the ODE comes from" in str(by_mouse) and "The SDE, σ = 1, ends at" in str(by_mouse)
    end = opened.page.evaluate("Player.now().launched.ode.slice(-2)")
    assert abs(np.hypot(*end) - 10) < 4  # the 11 modes of gmm lie on a circle of radius 10, std 1
    before = opened.page.evaluate("Player.now().launched.sdes[0].slice(-2)")
    opened.move("#sigma", 1.1)
    after = opened.page.evaluate("Player.now().launched.sdes[0].slice(-2)")
    assert 0 < np.hypot(*(np.array(after) - before)) < 3
    opened.move("#sigma", 1)
    canvas.press("Escape")
    canvas.press("ArrowRight")
    canvas.press("Enter")
    assert "the ODE comes from" in str(opened.page.text_content("#click"))
    own = opened.page.evaluate("Player.now().launched.own")
    assert own[1] == pytest.approx(opened.page.evaluate("Player.now().launched.own[1]")) and own[0] > 0
    opened.page.click("#clear")
    assert opened.page.evaluate("Player.now().launched") is None


def test_a_tile_shows_its_samples_in_the_player(opened: Opened) -> None:
    opened.page.locator("#cell-grid .tile").nth(3).click()
    assert opened.page.input_value("#right") == "job:3"
    shown = opened.pixels("right")
    opened.move("#t", 20)
    assert opened.pixels("right") == shown


def test_what_is_to_be_copied_is_copied(opened: Opened) -> None:
    opened.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    details = opened.page.locator("#runs details").nth(1)
    details.locator("summary").click()
    details.locator("button", has_text="Copy").first.click()
    opened.wait("document.querySelectorAll('#runs details')[1].textContent.includes('Copied')")
    assert opened.page.evaluate("navigator.clipboard.readText()") == details.locator("pre").first.text_content()


def test_pictures_are_zoomed(opened: Opened) -> None:
    opened.page.locator("#picture-grid .tile").click()
    scale = "Number(/scale\\((.*)\\)/.exec(document.getElementById('zoom-image').style.transform)?.[1])"
    opened.wait(f"{scale} > 0")
    first = opened.page.evaluate(scale)
    opened.page.locator("#zoom-area").press("+")
    assert opened.page.evaluate(scale) == pytest.approx(1.3 * first)
    opened.page.mouse.wheel(0, 400)
    opened.wait(f"{scale} < {first}")
    opened.page.click("#zoom-close")


def test_dark_is_a_click_away(opened: Opened) -> None:
    colour = "getComputedStyle(document.body).backgroundColor"
    light = opened.page.evaluate(colour)
    panel = opened.pixels("left")
    opened.page.click("#theme")
    assert opened.page.evaluate(colour) != light and opened.pixels("left") != panel
    opened.page.click("#theme")
    assert opened.page.evaluate(colour) == light


def test_it_is_as_wide_as_a_phone(browser: Any, file: Path) -> None:
    """Nothing but the table scrolls sideways; dark where the system is."""
    phone = Opened(browser, file, viewport={"width": 390, "height": 800}, color_scheme="dark")
    assert phone.page.evaluate("document.documentElement.scrollWidth") == 390
    assert phone.page.evaluate("Dom.isDark()") is True
    assert phone.said == []
