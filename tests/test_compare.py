"""`diffsde compare`: its words, its tables as files for a page, a paper and a program, and its pictures."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import diffsde
from diffsde.cli.main import main
from diffsde.report import pictures
from diffsde.report.axes import axes_of
from diffsde.report.comparison import Comparison, compare
from diffsde.report.grid import grid_of
from diffsde.report.show import say_comparison
from diffsde.report.tables import escape_latex, latex, markdown
from diffsde.runs import progress
from diffsde.runs.records import select

SAMPLERS = {"heun": 2, "em": 1, "dpmpp_2m": 1}


def write_job(where: Path, verb: str, config: dict[str, Any], summary: dict[str, Any], words: dict[str, Any]) -> None:
    """A finished job's folder, as a command leaves it."""
    (where / ".hydra").mkdir(parents=True)
    lines = "".join(f"- {key}={value}\n" for key, value in words.items())
    (where / ".hydra" / "overrides.yaml").write_text(lines)
    (where / "config.json").write_text(
        json.dumps({"format": 4, "verb": verb, "config": config, "directory": str(Path.cwd())})
    )
    (where / "summary.json").write_text(json.dumps(summary))


def sweep(
    where: Path, samplers: dict[str, int] = SAMPLERS, steps: tuple[int, ...] = (5, 10, 20), seeds: int = 3
) -> Path:
    """A sweep of samples of the exact field: w2 falls as 1/steps^order, and `em` is worse by 0.1."""
    draw = np.random.default_rng(0)
    where.mkdir(parents=True)
    (where / "sweep.json").write_text(json.dumps({"verb": "sample", "words": []}))
    number = 0
    for sampler, order in samplers.items():
        for count in steps:
            for seed in range(seeds):
                config: dict[str, Any] = {
                    "run": "oracle",
                    "dataset": {"name": "moons"},
                    "path": {"name": "ot"},
                    "n": 500,
                }
                config |= {"sampler": {"name": sampler}, "steps": count, "seed": seed}
                value = 0.15 + count**-order + 0.1 * (sampler == "em") + 0.001 * draw.normal()
                w2 = {"value": value, "error": 0.02, "floor": 0.15, "floor_error": 0.01, "points": 500}
                summary = {
                    "n": 500,
                    "nfe": count * order,
                    "steps": count,
                    "cpu_seconds": 0.01 * count,
                    "seconds": 0.02 * count,
                }
                summary |= {
                    "metrics": {"w2": w2},
                    "units": {"w2": "in the data's units"},
                    "directions": {"w2": "lower"},
                }
                words = {"run": "oracle", "sampler": sampler, "steps": count, "seed": seed}
                write_job(where / str(number), "sample", config, summary, words)
                number += 1
    return where


def said_of(jobs: list[Path], places: int) -> str:
    """Mean and sd of the w2 of jobs, as a table has them."""
    values = [json.loads((job / "summary.json").read_text())["metrics"]["w2"]["value"] for job in jobs]
    return f"{np.mean(values):.{places}f} +- {np.std(values, ddof=1):.{places}f}"


@pytest.fixture
def found(here: Path) -> Comparison:
    return compare(select([str(sweep(here / "swept"))]))


def test_one_command_writes_tables_and_pictures(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep(here / "swept")
    assert main(["compare", "swept", "out=compared"]) == 0
    said = capsys.readouterr().out
    assert "27 jobs of sample: sampler, steps compared (dataset=moons, path=ot, n=500)" in said
    best = said_of([here / "swept" / job for job in "678"], 5)
    assert "best: w2 0.15" in said and "sampler=heun steps=20 (jobs 6, 7, 8)" in said and f"{best}*" in said
    names = {
        "compare.csv",
        "compare.md",
        "compare.tex",
        "compare.json",
        "compare.png",
        "compare_heat.png",
        "compare_cost.png",
    }
    assert {path.name for path in (here / "compared").iterdir()} == names
    with open(here / "compared" / "compare.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 27 and {row["sampler"] for row in rows} == set(SAMPLERS)
    summary = json.loads((here / rows[4]["job"] / "summary.json").read_text())
    assert (
        float(rows[4]["w2"]) == summary["metrics"]["w2"]["value"]
        and rows[4]["seed"] == "1"
        and rows[4]["w2.floor"] == "0.15"
    )
    assert main(["compare", "swept", "where=steps=20", "pictures=false", "tables=[md]"]) == 0
    (made,) = (here / "outputs" / "compare").glob("*/*")
    assert {path.name for path in made.iterdir()} == {"compare.md", "compare.json"}
    assert len((made / "compare.md").read_text().split("| --- |")[1].splitlines()) >= 4


def test_refusals_are_one_line(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sweep(here / "swept", steps=(5,), seeds=1)
    for words, says in {
        (): "which runs?",
        ("swept", "x=stepz"): "x: 'stepz' neither differs between these jobs nor is a figure",
        ("swept", "y=w3"): "y: 'w3' is not a figure of these jobs; choose one of w2",
        ("swept", "by=path,smpler"): "by: no job has 'smpler' (did you mean 'sampler'?)",
        ("swept", "where=path"): "where: 'path' must be key=value",
        ("swept", "tables=[cvs]"): "tables: 'cvs' is not a table (did you mean 'csv'?)",
        ("swept", "pictures=maybe"): "pictures is 'maybe'; it must be true or false",
        ("swept", "out=swept/0"): "out: 'swept/0' is the folder of a run",
        ("nowhere",): "'nowhere' matches no run",
        ("swept", "--html"): "'--html' is not an option",
    }.items():
        assert main(["compare", *words]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1 and says in error, error
    assert not (here / "outputs").exists()


def test_rows_and_digits_of_the_tables(here: Path, found: Comparison) -> None:
    """Two digits of the sds, or three; the best in bold; what true points score in the last row."""
    grid, said = grid_of(found), said_of([here / "swept" / job for job in "678"], 5)
    assert grid.headings == ("sampler", "steps", "w2 (in the data's units)", "NFE", "CPU time (s)")
    best = [row for row in grid.rows if row[2].bold]
    assert [(row[0].text, row[1].text) for row in best] == [("heun", "20")] and best[0][2].plain() == said
    assert grid.last is not None and grid.last[2].plain() == "0.15000 +- 0.01000 (500 true points)"
    assert f"| heun | 20 | **{said.replace('+-', '±')}** | 40 | 0.2 |" in markdown(found).splitlines()
    cells = rf"$\mathbf{{{said.replace('+-', chr(92) + 'pm')}}}$ & $40$ & $0.2$ \\"
    assert rf"heun & $20$ & {cells}" in latex(found).splitlines()


def test_a_narrow_terminal_has_what_fits(
    found: Comparison, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Keys and the first figures; the others are named."""
    monkeypatch.setattr(progress, "on_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", "74")
    say_comparison(found)
    said = capsys.readouterr().out
    assert "not shown here: CPU time (s)" in said and " NFE " in said
    assert max(len(line) for line in said.splitlines() if " heun " in line) <= 74
    monkeypatch.setenv("COLUMNS", "200")
    say_comparison(found)
    assert "not shown" not in capsys.readouterr().out
    halves = [row._replace(keys={"verb": verb} | row.keys) for verb in ("sample", "train") for row in found.rows]
    both = found._replace(keys=("verb", *found.keys), rows=tuple(halves))
    say_comparison(both)
    assert "compare one verb" not in capsys.readouterr().out
    monkeypatch.setenv("COLUMNS", "60")
    say_comparison(both)
    assert "for fewer columns compare one verb (verb=sample or verb=train), or by=KEYS" in capsys.readouterr().out


ODD = r"a_b&c%d$e#f{g}h~i^j\k<l>|m [n]*"


def test_the_table_compiles_in_a_paper(found: Comparison, tmp_path: Path) -> None:
    """By booktabs, as it is, with names that LaTeX would take for commands; and a row that begins with a bracket."""
    rows = [
        row._replace(keys=row.keys | {"sampler": odd})
        for row, odd in zip(found.rows, ("[64,64]", "*", ODD), strict=False)
    ]
    text = latex(found._replace(rows=tuple(rows), remarks=("a % remark\nin two lines",)))
    lines = text.splitlines()
    assert all(line.startswith("%") for line in lines[:3]) and lines[3].startswith(r"\begin{tabular}{llrrr}")
    assert all(line.count(" & ") == 4 for line in lines if line.endswith(r"\\"))
    assert escape_latex("[1]_*") == r"{[}1]\_{*}"
    if shutil.which("pdflatex") is None:
        pytest.skip("that it compiles needs pdflatex with booktabs")
    (tmp_path / "table.tex").write_text(text)
    paper = r"\documentclass{article}\usepackage{booktabs}\begin{document}\input{table.tex}\end{document}"
    (tmp_path / "paper.tex").write_text(paper)
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]
    if shutil.which("pdftotext"):
        subprocess.run(["pdftotext", "-layout", "paper.pdf"], cwd=tmp_path, check=True)
        assert "[64,64]" in (tmp_path / "paper.txt").read_text()


def test_markdown_is_text_whatever_a_name_has(found: Comparison) -> None:
    rows = (found.rows[0]._replace(keys=found.rows[0].keys | {"sampler": "<b>|x|</b>`y` *z* _w_ a_b"}),)
    line = next(line for line in markdown(found._replace(rows=rows, best={})).splitlines() if "&lt;b" in line)
    assert line.startswith(r"| &lt;b&gt;\|x\|&lt;/b&gt;\`y\` \*z\* \_w\_ a_b | 5 | 0.1")


def test_parquet_has_what_csv_has(here: Path, found: Comparison, capsys: pytest.CaptureFixture[str]) -> None:
    if find_spec("pyarrow") is None:
        assert main(["compare", "swept", "tables=[parquet]"]) == 2
        assert "pip install 'diffsde[parquet]'" in capsys.readouterr().err
        pytest.skip("what is written needs pyarrow")
    from pyarrow import parquet

    assert main(["compare", "swept", "tables=[parquet,csv]", "pictures=false", "out=compared"]) == 0
    table = parquet.read_table(here / "compared" / "compare.parquet").to_pydict()
    with open(here / "compared" / "compare.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(table) == list(rows[0]) and [float(row["w2"]) for row in rows] == table["w2"]


def test_what_is_drawn_is_chosen_by_words(found: Comparison, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key with most numbers is x, each combination of the others a series; x= takes costs too."""
    axes = axes_of(found)
    assert axes is not None and (axes.x, axes.y.name) == ("steps", "w2")
    (axis,) = pictures.curves(found, axes).axes
    lines = {line.get_label() for line in axis.get_legend_handles_labels()[0]}
    assert axis.get_xlabel() == "steps" and axis.get_legend_handles_labels()[1][:1] == [
        "a true sample of this size: 0.15"
    ]
    assert lines and set(axis.get_legend_handles_labels()[1][1:]) == set(SAMPLERS)
    chosen = axes_of(found, x="nfe")
    assert chosen is not None and pictures.curves(found, chosen).axes[0].get_xlabel() == "NFE"
    panel = pictures.heat(found, axes).axes[0]
    assert (panel.get_xlabel(), panel.get_ylabel()) == ("steps", "sampler") and len(panel.texts) == 9
    field = [found.rows[0]._replace(keys={"sampler": sampler, "steps": "null"}) for sampler in SAMPLERS]
    panel = pictures.heat(found._replace(rows=(*field, *found.rows)), axes).axes[0]
    assert [tick.get_text() for tick in panel.get_xticklabels()] == ["5", "10", "20"]
    points = [(1.0, 3.0), (2.0, 1.0), (2.0, 2.0), (3.0, 2.5), (4.0, 0.5)]
    assert pictures.front(points, "lower") == [(1.0, 3.0), (2.0, 1.0), (4.0, 0.5)]
    assert pictures.front(points, "higher") == [(1.0, 3.0)]


@pytest.mark.slow
def test_a_thousand_jobs_take_seconds(here: Path) -> None:
    """Words to tables; what is kept of each is its record."""
    sweep(here / "swept", steps=tuple(range(1, 67)), seeds=5)
    began = time.process_time()
    assert main(["compare", "swept", "out=compared"]) == 0
    assert time.process_time() - began < 15
    assert len((here / "compared" / "compare.csv").read_text().splitlines()) == 991


def test_python_has_the_same_comparison(here: Path) -> None:
    sweep(here / "swept")
    found = diffsde.compare("swept", by=["sampler"], where="steps=5,10", folder="compared")
    assert [row.keys["sampler"] for row in found.rows] == list(SAMPLERS) and found.best["w2"].keys == {
        "sampler": "heun"
    }
    assert repr(found).startswith("18 jobs of sample: sampler compared") and "<b>0." in found._repr_html_()
    assert len(found.table()["w2"]) == 18 and (here / "compared" / "compare.png").exists()
    with pytest.raises(ValueError, match="where: no job has 'stps' \\(did you mean 'steps'"):
        diffsde.compare("swept", where="stps=5")


def test_choices_of_a_run_that_was_moved_stay_columns(here: Path) -> None:
    """Samples say the id of the run that they were drawn from, by which it is found in another folder under outputs/."""
    jobs = []
    for path, name in (("ot", "bcdfghj"), ("vp", "kmnpqrs")):
        run, drawn = Path("outputs/train/day") / path, Path("outputs/sample/day") / path
        metrics = {"w2": {"value": 0.2, "error": 0.02, "points": 500}}
        write_job(
            run,
            "train",
            {"path": {"name": path}, "dataset": {"name": "moons"}, "steps": 5},
            {"steps": 5, "metrics": {}},
            {},
        )
        write_job(drawn, "sample", {"run": str(run), "n": 500, "seed": 0}, {"n": 500, "metrics": metrics}, {"run": run})
        for folder, about in ((run, {"id": name}), (drawn, {"used": {"run": name}})):
            kept = json.loads((folder / "config.json").read_text())
            (folder / "config.json").write_text(json.dumps(kept | {"provenance": about}))
        jobs.append(str(drawn))
    Path("outputs/train").rename("outputs/of old")
    assert [row.keys["path"] for row in compare(select(jobs)).rows] in (["ot", "vp"], ["vp", "ot"])
