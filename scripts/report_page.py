"""The page of a 60-job sweep: its size, how long it takes to make and to open, and the picture of it in docs/report.md.

Trains moons on three paths with two seeds, samples each run by two samplers in five numbers of steps, writes the page, and opens
it in headless Chromium (playwright, from '.[dev]'). usage: python scripts/report_page.py [FOLDER]   where the runs are kept.
"""

from __future__ import annotations

import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright  # type: ignore[import-not-found,unused-ignore]

PICTURES = Path(__file__).parent.parent / "docs" / "pictures"
FLAGS = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")
OPENINGS = 5


def diffsde(where: Path, *words: str) -> tuple[float, float]:
    """Run a command in a folder; its seconds of wall and of CPU."""
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    ran = subprocess.run(
        [sys.executable, "-m", "diffsde", *words], cwd=where, capture_output=True, text=True, check=False
    )
    if ran.returncode:
        sys.exit(ran.stderr)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.perf_counter() - begun, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def sweep(where: Path) -> Path:
    """The folder of a sweep of 60 jobs of sample."""
    if not (where / "runs").exists():
        diffsde(
            where, "train", "-m", "dataset=moons", "path=ot,vp,trig", "seed=0,1", "steps=3000", "hydra.sweep.dir=runs"
        )
    if not (where / "samples").exists():
        runs = ",".join(str(Path("runs", str(i))) for i in range(6))
        how = "sampler=heun,em", "steps=5,10,20,50,100", "n=2000", "pictures=none"
        diffsde(where, "sample", "-m", f"run={runs}", *how, "hydra.sweep.dir=samples")
    return where / "samples"


def opening(browser: Any, page: Path) -> tuple[float, float]:
    """Seconds until the page is drawn and answers, and how long its one thread was busy meanwhile."""
    tab = browser.new_page(viewport={"width": 1280, "height": 900})
    session = tab.context.new_cdp_session(tab)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    begun = time.perf_counter()
    tab.goto(f"file://{page}")
    tab.wait_for_selector("html[data-ready=yes]")
    seconds = time.perf_counter() - begun
    busy = {each["name"]: each["value"] for each in session.send("Performance.getMetrics")["metrics"]}["ThreadTime"]
    tab.close()
    return seconds, busy


def picture(browser: Any, page: Path, out: Path) -> None:
    """The player after a click, halfway from noise to data, as a picture of 128 colours."""
    tab = browser.new_page(viewport={"width": 1180, "height": 900})
    tab.goto(f"file://{page}")
    tab.wait_for_selector("html[data-ready=yes]")
    tab.locator("#t").fill("96")
    tab.locator("#sigma").fill("1")
    canvas = tab.locator("#right-canvas")
    box = canvas.bounding_box()
    canvas.click(position={"x": box["width"] * 0.45, "y": box["height"] * 0.42})
    tab.wait_for_timeout(500)
    tab.locator("#player").screenshot(path=out)
    Image.open(out).convert("RGB").quantize(128).save(out, optimize=True)


def main() -> None:
    where = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp()).resolve()
    jobs = sweep(where)
    wall, cpu = diffsde(where, "report", "samples", "out=page")
    page = where / "page" / "report.html"
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=list(FLAGS))
        seconds = [opening(browser, page) for _ in range(OPENINGS)]
        picture(browser, page, PICTURES / "report.png")
    print(
        f"{len(list(jobs.glob('[0-9]*')))} jobs: {page.stat().st_size / 1e6:.2f} MB, made in {wall:.0f} s ({cpu:.0f} CPU s),"
    )
    wall, cpu = (statistics.median(each) for each in zip(*seconds, strict=True))
    print(f"opened in {wall:.2f} s (median of {OPENINGS}, most {max(seconds)[0]:.2f}), {cpu:.2f} s of CPU")


if __name__ == "__main__":
    main()
