"""The page of a report, as text: it is whole, small, and what is in configs and names stays text."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shlex
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diffsde.cli.main import main
from diffsde.report import page, page_data, page_players
from diffsde.report.packing import quantised
from diffsde.report.player import source_key
from tests.page_fixtures import EVIL, EXACT, comparison, record

PNG = b"\x89PNG\r\n\x1a\n"


class Read(HTMLParser):
    """What a browser would see: the scripts' texts, every tag with its attributes, and the title."""

    def __init__(self) -> None:
        super().__init__()
        self.scripts: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.title, self.inside = "", ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.inside = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside == "script":
            self.scripts[-1] += data
        elif self.inside == "title":
            self.title += data


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Read:
    """A page of 60 rows with markup in every text; without a player, which the browser's tests have."""
    where = tmp_path_factory.mktemp("page")
    (where / "compare<b>.png").write_bytes(PNG)
    report = report_without_players(where)
    found = Read()
    found.feed(page.page_of(report))
    return found


def report_without_players(where: Path) -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page, "players_of", lambda records, firsts: ([], [None] * len(records), ""))
        return page.report_of(comparison(where), where)


def test_text_is_never_markup(written: Read) -> None:
    """Markup in titles, keys, names, configs and folders adds no tag and ends no script, and is read back as it was."""
    assert len(written.scripts) == len(page.SCRIPTS) + 1
    assert "img" not in {tag for tag, about in written.tags if about.get("id") != "zoom-image"}
    report = json.loads(written.scripts[0])
    assert written.title == report["title"] == EVIL
    job = report["jobs"][0]
    assert (job["name"], job["tags"], json.loads(job["config"])["note"]) == (EVIL, [EVIL], EVIL)
    assert report["rows"][0]["keys"]["path"] == EVIL and "<i>" in job["folder"]
    assert report["pictures"][0]["title"] == "compare<b>"


def test_the_policy_names_every_script_and_lets_nothing_be_fetched(written: Read) -> None:
    policy = next(str(about["content"]) for tag, about in written.tags if tag == "meta" and "http-equiv" in about)
    assert "default-src 'none'" in policy
    for text in written.scripts[1:]:
        assert base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() in policy
    for tag, about in written.tags:
        assert not {"src", "onclick", "onerror"} & set(about), (tag, about)
        assert tag != "link" and str(about.get("href", "#")).startswith("#")


def test_what_is_not_a_number_is_null(written: Read) -> None:
    assert json.loads(json.loads(written.scripts[0])["jobs"][0]["summary"]) == {"value": None}
    assert json.loads(page_data.as_json({"a": [float("inf"), 1.5]})) == {"a": [None, 1.5]}


def test_a_command_is_quoted_for_a_shell(tmp_path: Path) -> None:
    job = record(tmp_path / "job", words={"dataset.means": "[[-1.0],[2.0]]", "name": "it's; $(rm)"})
    words = shlex.split(page_data.command_of(job))
    assert words == ["diffsde", "sample", "dataset.means=[[-1.0],[2.0]]", "name=it's; $(rm)"]


def test_pictures_fill_the_page_and_no_more(tmp_path: Path) -> None:
    """The large one is left out and said, the small ones are in: 6 MB at most."""
    (tmp_path / "a.png").write_bytes(PNG + bytes(3_000_000))
    (tmp_path / "b.png").write_bytes(PNG + bytes(2_000_000))
    (tmp_path / "c.gif").write_bytes(b"GIF89a" + bytes(1000))
    report = report_without_players(tmp_path)
    assert [picture["title"] for picture in report["pictures"]] == ["a", "c"]
    assert report["pictures_note"].startswith("1 more is")
    assert 4_000_000 < len(page.page_of(report)) < 6_000_000


def test_of_many_jobs_texts_are_left_out_before_the_page_grows(tmp_path: Path) -> None:
    """Those of the first job of each row last; figures, commands and samples of all stay."""
    found = comparison(tmp_path, 4)
    large = record(tmp_path / "large", config={"seed": 0, "note": "x" * 900_000}, words={})
    rows = [
        row._replace(records=(*row.records, large._replace(config=large.config | {"seed": 1}))) for row in found.rows
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page, "players_of", lambda records, firsts: ([], [None] * len(records), ""))
        report = page.report_of(found._replace(rows=(*rows, *(row for row in rows))), tmp_path)
    assert [job["config"] is None for job in report["jobs"]] == [False, True] * 8
    assert report["jobs"][1]["title"].endswith("seed=1")
    assert len(page.page_of(report)) < 6_000_000


def test_states_keep_four_digits() -> None:
    """In 16 bits, each time at its own scale, whatever the others'."""
    values = np.random.default_rng(0).normal(size=(2, 3, 50, 2)) * np.array([80.0, 1.0, 1e-3])[:, None, None]
    found = quantised(values)
    numbers = np.frombuffer(base64.b64decode(found["numbers"]), "<i2").reshape(found["shape"])
    back = numbers / 32_767 * np.array(found["scales"])[:, None, None]
    assert (np.abs(back - values).max(axis=(0, 2, 3)) < 1e-4 * np.abs(values).max(axis=(0, 2, 3))).all()


SPACE = {"name": "mixture", "means": [[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]], "stds": [0.5, 0.5]}


def test_where_there_is_no_player_the_page_says_why(tmp_path: Path) -> None:
    """Points in more dimensions, guided samples, a run that is gone, a verb without a field."""
    records = [
        record(tmp_path / "space", config=EXACT | {"dataset": SPACE}),
        record(tmp_path / "guided", config=EXACT | {"guidance": 2.0}),
        record(tmp_path / "gone", config=EXACT | {"run": "nowhere"}),
        record(tmp_path / "paths", "simulate", {}),
    ]
    for job, why in zip(records, ("3 coordinates", "guidance=", "nowhere", "simulate"), strict=True):
        players, of_job, note = page_players.players_of([job], [0])
        assert (players, of_job) == ([], [None]) and why in note and note.startswith("No player:")


def test_jobs_of_one_field_share_a_player(tmp_path: Path) -> None:
    """A run and samples of it at any sigma, by a sampler with or without noise; not at another checkpoint or diffusion."""

    def key(verb: str, **config: Any) -> tuple[str, ...]:
        return source_key(verb, tmp_path, config)

    grid = {"name": "auto", "start": 0.0, "end": 1.0}
    own = key("train", grid=None)
    em = {"name": "em", "diffusion": {"name": "constant", "sigma": 2.0}}
    assert own == key("sample", run="x", grid=grid, sampler={"name": "heun"}, checkpoint="last", ema=None)
    assert own == key("sample", run="x", grid=grid, sampler=em)
    bump = {"name": "em", "diffusion": {"name": "bump", "sigma": 2.0}}
    others = [
        {"checkpoint": "100"},
        {"ema": 0.9},
        {"sampler": bump},
        {"grid": grid | {"start": 0.1}},
        {"run": "oracle"},
    ]
    assert own not in [key("sample", **{"run": "x", "grid": grid, "sampler": em} | other) for other in others]


def test_samples_in_a_page_are_the_jobs_own(tmp_path: Path) -> None:
    """Points in the data's own units, far from 0 too; of images their pixels; none of other arrays."""
    job, far = record(tmp_path), np.random.default_rng(1).normal(size=(30, 2)) + np.array([1e6, 0.0])
    np.savez(tmp_path / "samples.npz", x=far)
    found = page_players.samples_of(job)["samples"]
    numbers = np.frombuffer(base64.b64decode(found["numbers"]), "<i2").reshape(30, 2)
    np.testing.assert_allclose(numbers / 32_767 * found["scales"][0] + found["offset"], far, atol=1e-3)
    images = np.linspace(-1, 1, 5 * 4 * 4 * 1).reshape(5, 4, 4, 1)
    np.savez(tmp_path / "samples.npz", x=images)
    found = page_players.samples_of(job)["images"]
    assert found["shape"] == [5, 4, 4, 1]
    assert [*base64.b64decode(found["bytes"])][::79] == [0, 255]
    np.savez(tmp_path / "samples.npz", x=np.zeros((5, 7)))
    assert page_players.samples_of(job) == {}


def test_the_verb_writes_a_page_into_the_run(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a folder that holds no field, for which nothing is simulated; out= says where else; an unknown word is one line."""
    job = here / "outputs" / "simulate" / "2026-11-26" / "10-00-00"
    job.mkdir(parents=True)
    figure = {"value": 0.5, "error": 0.1}
    (job / "config.json").write_text(json.dumps({"format": 4, "verb": "simulate", "config": {"seed": 0}}))
    (job / "summary.json").write_text(
        json.dumps({"metrics": {"mean_error": figure}, "directions": {"mean_error": "lower"}})
    )
    assert main(["report"]) in (0, None)
    assert "report.html" in capsys.readouterr().out
    text = (job / "report.html").read_text(encoding="utf-8")
    assert re.search(r'"mean_error":\{"value":0\.5,"error":0\.1', text)
    assert main(["report", str(job.relative_to(here)), "out=there"]) in (0, None)
    assert (here / "there" / "report.html").read_text(encoding="utf-8") == text
    assert main(["compare", str(job), "report=true", "pictures=false", "out=both"]) in (0, None)
    assert {"report.html", "compare.csv"} <= {path.name for path in (here / "both").iterdir()}
    assert main(["report", str(job), f"out={job / 'config.json' / 'x'}"]) == 2
    assert "cannot be written: Not a directory" in capsys.readouterr().err
    assert main(["report", "nothing"]) == 2
    assert "'nothing' matches no run" in capsys.readouterr().err
