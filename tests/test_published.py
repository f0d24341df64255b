"""Published figures beside measured ones: what counts as agreement, and that every study of configs/ is one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diffsde.cli import study_words
from diffsde.cli.job import config_folder
from diffsde.cli.study_plan import planned
from diffsde.report import published
from diffsde.report.published import Measured
from diffsde.runs import records
from diffsde.runs.formats import FORMAT


def judged(where: Path, value: float, path: str, seed: int, exact: float = 1.0) -> None:
    """A run along a path and the evaluation of it, with one figure."""
    for verb, config, summary in (
        ("train", {"path": {"name": path}, "seed": seed}, {"metric": {"name": "loss", "value": 1.0}}),
        (
            "evaluate",
            {"run": str(where / "train"), "path": None, "seed": 0},
            {"metrics": {"std": {"value": value, "exact": exact}}, "nfe": 10 * value},
        ),
    ):
        (where / verb).mkdir(parents=True)
        kept = {"format": FORMAT, "verb": verb, "config": config}
        (where / verb / "config.json").write_text(json.dumps(kept))
        (where / verb / "summary.json").write_text(json.dumps(summary))


@pytest.fixture
def some(here: Path) -> list[records.Record]:
    """Three seeds of ot at 1.1, 1.2, 1.3, which vp is above by 0.1 each time, and ve by 0.1, -0.1 and 0.1."""
    for path, values in {"ot": (1.1, 1.2, 1.3), "vp": (1.2, 1.3, 1.4), "ve": (1.2, 1.1, 1.4)}.items():
        for seed, value in enumerate(values):
            judged(Path(f"{path}{seed}"), value, path, seed)
    return [record for record in records.every(Path()) if record.verb == "evaluate"]


def test_a_figure_is_that_of_the_run_with_the_choices(some: list[records.Record]) -> None:
    """The path is the trained run's; numbers of the summary itself are found too, and distances from the exact value."""
    found = published.measured(some, {"path": "ot"}, "std")
    assert found is not None and found.mean == pytest.approx(1.2) and found.sd == pytest.approx(0.1)
    assert found.shown() == "1.2 +- 0.1 (3 seeds)"
    assert found._replace(floor=0.05).shown() == "1.2 +- 0.1 (3 seeds; two true sets 0.05)"
    for figure, gap, mean in (("nfe", False, 13.0), ("std", True, 0.3)):
        other = published.measured(some, {"run.path": "vp"}, figure, gap)
        assert other is not None and other.mean == pytest.approx(mean)
    assert published.measured(some, {"path": "trig"}, "std") is None
    assert published.measured(some, {"path": None}, "std") is None  # null is of jobs without the choice
    assert published.measured(some, {"path": "ot", "run.source": None}, "std") == found


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"value": 1.4, "sd": 0.05}, "yes"),  # 0.2 off, and 0.11 the spread of both
        ({"value": 1.4}, "yes"),
        (
            {"value": 1.03, "sd": 0.1, "n": 5},
            "within the spread of runs; the mean is higher by 0.17, 2.3 standard errors",
        ),
        ({"value": 1.15, "sd": 0.1, "n": 5}, "yes"),
        ({"value": 1.5, "sd": 0.05, "because": "of the net"}, "no, lower by 0.3: of the net"),
        ({"value": 0.9}, "no, higher by 0.3"),
    ],
)
def test_a_figure_agrees_within_twice_the_spreads(entry: dict[str, Any], says: str, some: list[records.Record]) -> None:
    entry = {"what": "ot", "where": {"path": "ot"}, "figure": "std"} | entry
    assert published.row_of(entry, some)[-1] == says
    assert published.row_of(entry | {"where": {"path": "trig"}}, some)[-2:] == ("not measured", "")


def test_one_seed_agrees_with_nothing() -> None:
    assert "one seed" in published.verdict({"value": 1.0}, Measured((1.0,)))


@pytest.mark.parametrize(
    ("order", "says"),
    [
        (("ot", "vp"), "yes"),
        (("vp", "ot"), "no, vp against ot is the other way round: of luck"),
        (("ot", "ve"), "no, ot against ve is not resolved: of luck"),
    ],
)
def test_an_ordering_is_resolved_seed_by_seed(order: tuple[str, ...], says: str, some: list[records.Record]) -> None:
    """vp is above ot by as much as the seeds vary, but every time."""
    low_first = [{"what": path, "where": {"path": path}} for path in order]
    entry = {"what": "std", "figure": "std", "from_low": low_first, "because": "of luck"}
    assert published.ordering(entry, some)[-1] == says


LONG = {"sf2m_by_sde", "sf2m_by_ode", "icfm_and_fm"}  # so many runs that their words take 10 s to compose


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in LONG)) for name in study_words.names()]
)
def test_every_study_of_configs_is_one(name: str) -> None:
    """Its words compose, and its published figures are of choices that its own words make."""
    text = (config_folder() / "experiment" / "study" / f"{name}.yaml").read_text()
    assert text.startswith(f"# diffsde study experiment={name}\n# ")
    asked = study_words.asked([f"experiment={name}"])
    stages = planned(asked)
    assert stages and asked.published["source"]
    entries = asked.published.get("figures", []) + [
        each for order in asked.published.get("orderings", []) for each in order["from_low"]
    ]
    typed = {word.partition("=")[0] for stage in stages for word in stage.words}
    assert entries and {key.removeprefix("run.") for entry in entries for key in entry["where"]} <= typed | {
        "net.activation",
        "net.name",
    }


def test_an_ordering_by_chance_is_as_rare_as_in_a_comparison() -> None:
    """Of three seeds of equal law, paired or not, neither is said to be higher more than once in 20 times."""
    draw = np.random.default_rng(0)
    seeds = [tuple((str(i + first),) for i in range(3)) for first in (0, 0, 3)]
    for other in (1, 2):
        said = [
            published.compared(*(Measured(tuple(draw.normal(size=3)), seeds[i]) for i in (0, other)))
            for _ in range(1000)
        ]
        assert np.mean([how in ("", "is the other way round") for how in said]) < 0.07
