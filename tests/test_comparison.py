"""Comparisons of jobs, whose records are made here: what differs, what is folded, what is ranked and what never is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diffsde.cli.sweep_end import cells_of
from diffsde.errors import UserError
from diffsde.metrics.figures import Reference
from diffsde.report.comparison import Comparison, compare
from diffsde.report.grid import grid_of
from diffsde.runs.records import Record

MOONS = {"dataset": {"name": "moons", "std": 0.05}, "lr": 0.001, "seed": 0, "precondition": True}
PATHS: dict[str, dict[str, Any]] = {"ot": {"name": "ot"}, "vp": {"name": "vp", "rate_max": 20.0}}


def record(verb: str, config: dict[str, Any], summary: dict[str, Any], words: dict[str, str], **about: Any) -> Record:
    """A whole job's record; number: that of the job in its sweep."""
    number = about.pop("number", 0)
    where = Path("sweep") / str(number)
    plain: dict[str, Any] = {
        "folder": where,
        "id": f"id{number}",
        "date": f"2026-01-01T00:00:{number:02d}",
        "error": "",
    }
    plain |= {"state": "whole", "name": "", "tags": (), "sweep": where.parent}
    return Record(verb=verb, config=config, summary=summary, words=words, **plain | about)


def training(path: str, seed: int, loss: float, number: int = 0, **about: Any) -> Record:
    """A training run on the moons, judged by its loss."""
    config = MOONS | {
        "path": PATHS[path],
        "objective": {"name": "cfm", "weight": "auto"},
        "seed": seed,
        "run": None,
        "steps": 300,
    }
    summary = {
        "steps": 300,
        "metric": {"name": "loss", "value": loss},
        "loss": {"value": loss},
        "seconds": 2.0,
        "cpu_seconds": 3.0,
    }
    return record(
        "train", config | about.pop("config", {}), summary, {"path": path, "seed": str(seed)}, number=number, **about
    )


def drawing(sampler: str, seed: int, w2: float, number: int = 0, run: str = "oracle", **about: Any) -> Record:
    """Samples of a run, or of the exact field of the moons, with their distance from the data."""
    config: dict[str, Any] = {
        "sampler": {"name": sampler},
        "grid": {"name": "auto"},
        "seed": seed,
        "steps": 10,
        "n": 500,
        "run": run,
    }
    if sampler == "em":
        config["sampler"]["diffusion"] = {"name": "constant", "sigma": 0.5}
    if run == "oracle":
        config |= MOONS | {"path": PATHS["ot"], "seed": seed}
    figure = {"value": w2, "error": 0.02, "floor": 0.15, "floor_error": 0.01, "points": 500} | about.pop("figure", {})
    summary = {"n": 500, "nfe": 20 if sampler == "heun" else 10, "steps": 10, "metrics": {"w2": figure}, "seconds": 0.5}
    summary |= {"units": {"w2": "in the data's units"}, "directions": {"w2": "lower"}} | about.pop("summary", {})
    words = {"run": run, "sampler": sampler, "seed": str(seed)}
    return record("sample", config | about.pop("config", {}), summary, words, number=number, **about)


def question(lead: float) -> tuple[list[Record], dict[str, Record]]:
    """Two paths, two samplers, three trainings, two noises: w2 differs by noise, and by `lead` for path=ot sampler=heun."""
    draw, found, runs = np.random.default_rng(1), [], {}
    for path in PATHS:
        for seed in range(3):
            run = runs[f"runs/{path}{seed}"] = training(path, seed, 1.0)
            for sampler in ("heun", "em"):
                for noise in range(2):
                    w2 = 0.3 + 0.01 * draw.normal() - (lead if (path, sampler) == ("ot", "heun") else 0)
                    found.append(drawing(sampler, noise, w2, len(found), f"runs/{run.config['path']['name']}{seed}"))
    return found, runs


def compared(records: list[Record], runs: dict[str, Record] | None = None, **about: Any) -> Comparison:
    return compare(records, parent=lambda each: (runs or {}).get(str(each.config["run"])), **about)


def test_the_path_is_a_column_and_seeds_are_folded() -> None:
    """It is of the run that was sampled from; rows are ordered by their keys, and neither seeds nor folders are among these."""
    records, runs = question(0.2)
    found = compared(records[::-1], runs)
    assert found.keys == ("path", "sampler")
    assert [tuple(row.keys.values()) for row in found.rows] == [
        ("ot", "heun"),
        ("ot", "em"),
        ("vp", "heun"),
        ("vp", "em"),
    ]
    row = found.rows[0].figures["w2"]
    mine = np.array([each.summary["metrics"]["w2"]["value"] for each in records if each.words["sampler"] == "heun"][:6])
    assert row.n == len(row.values) == 6 and row.figure.value == pytest.approx(mine.mean())
    assert row.sd == pytest.approx(mine.std(ddof=1))
    runs_and_noises = [mine.reshape(3, 2).mean(axis=axis).std(ddof=1) / np.sqrt(n) for axis, n in ((1, 3), (0, 2))]
    assert row.figure.error == pytest.approx(np.hypot(*runs_and_noises))
    assert row.values["run.seed=2, seed=1"] == mine[5]
    assert row.figure.reference == Reference("floor", 0.15, 0.01)
    column = found.column("w2")
    assert column is not None and (column.unit, column.direction, column.ranks) == ("in the data's units", "lower", "")
    assert found.rows[0].figures["run.cpu_seconds"].figure.value == 3.0 and found.column("run.cpu_seconds").cost  # type: ignore[union-attr]


def test_a_known_lead_is_found_and_noise_is_none() -> None:
    records, runs = question(0.2)
    found = compared(records, runs)
    assert found.best == {"w2": 0}
    assert found.remarks[0].startswith("best: w2 0.1") and "path=ot sampler=heun" in found.remarks[0]
    assert "paired by seed, 3 x 2 seeds each" in found.remarks[0]
    records, runs = question(0.0)
    found = compared(records, runs)
    assert found.best == {} and found.remarks[0].startswith("no best: w2 ")


def test_losses_of_other_things_are_never_ranked() -> None:
    """However far apart; of one path they are, and other figures of the same sweep are too."""
    records = [training(path, seed, loss + 0.01 * seed, i) for i, (path, seed, loss) in enumerate(
        [("ot", 0, 5.0), ("ot", 1, 5.0), ("ot", 2, 5.0), ("vp", 0, 1.0), ("vp", 1, 1.0), ("vp", 2, 1.0)])]  # fmt: skip
    found = compared(records)
    assert found.best == {} and found.remarks[0] == "no best: loss: the loss means something else with each path="
    for config in ({"objective": {"name": "cfm", "weight": "unit"}}, {"time": {"name": "uniform"}}, {"precondition": False},
                   {"dataset": {"name": "circles"}}, {"label_dropout": 0.1}):  # fmt: skip
        others = [training("ot", seed, 1.0 + 0.01 * seed, seed + 3, config=config) for seed in range(3)]
        assert compared([*records[:3], *others]).best == {}, config
    streamed = {"dataset": MOONS["dataset"] | {"stream": True}, "lr": 0.01}  # which changes nothing of the data
    others = [training("ot", seed, 1.0 + 0.01 * seed, seed + 3, config=streamed) for seed in range(3)]
    assert compared([*records[:3], *others]).best == {"loss": 1}
    with_kl = [each._replace(summary=each.summary | {"kl": {"value": kl, "error": 0.001}})
               for each, kl in zip(records, (0.1, 0.11, 0.1, 0.5, 0.51, 0.5), strict=True)]  # fmt: skip
    found = compared(with_kl)
    assert found.best == {"kl": 0} and found.remarks[0].startswith("best: kl 0.1")
    assert "not ranked: loss: the loss means something else with each path=" in found.remarks


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ({"summary": {"units": {"w2": "in stds"}}}, "units differ: in stds, in the data's units"),
        ({"figure": {"points": 100}}, "these are of 100, 500"),
        ({"config": {"dataset": {"name": "circles"}}}, "dataset= differs"),
        ({"config": {"measurement": {"name": "inpaint"}}}, "measurement= differs"),
        ({"config": {"labels": "all"}}, "labels= differs"),
        ({"summary": {"not_ranked": "it is a process"}}, "it is a process"),
        ({"summary": {"directions": {"w2": ""}}}, "no direction"),
    ],
)
def test_figures_of_other_things_are_never_ranked(other: dict[str, Any], why: str) -> None:
    first = [drawing("heun", seed, 0.5 + 0.001 * seed, seed) for seed in range(3)]
    found = compared(first + [drawing("em", seed, 0.1, 3 + seed) for seed in range(3)])
    assert found.best == {"w2": 1}
    found = compared(first + [drawing("em", seed, 0.1, 3 + seed, **other) for seed in range(3)])
    assert found.best == {} and found.remarks[0].startswith("no best: w2: ") and why in found.remarks[0]


def test_a_figure_with_a_target_is_best_where_it_is_near() -> None:
    """Not where it is low; guided samples, which are held against nothing, are not ranked by it."""

    def entropies(target: dict[str, float]) -> list[Record]:
        made = []
        for i, (sampler, seed) in enumerate([(s, k) for s in ("heun", "em") for k in range(3)]):
            figure = {"value": (4.9 if sampler == "heun" else 5.3) + 0.001 * seed, "error": 0.01, **target}
            summary = {
                "metrics": {"cross_entropy": figure},
                "units": {"cross_entropy": "nats"},
                "directions": {"cross_entropy": "target"},
            }
            made.append(drawing(sampler, seed, 0.0, i, summary=summary))
        return made

    assert compared(entropies({"exact": 5.2})).best == {"cross_entropy": 1}
    assert compared(entropies({"exact": 5.0})).best == {"cross_entropy": 0}
    found = compared(entropies({}))
    assert found.best == {} and "held against nothing" in found.remarks[0]


def test_guided_samples_are_not_ranked_by_what_is_held_against_nothing() -> None:
    """As distances from the data, whose floors are left out; a figure that has its reference is ranked."""

    def drawn(guidance: float | None, **held: float) -> list[Record]:
        made = []
        for seed in range(3):
            figure = {"value": 0.2 * (guidance or 0.5) + 0.001 * seed, "error": 0.01, "points": 500, **held}
            summary = {"metrics": {"w2": figure}}
            made.append(drawing("heun", seed, 0.0, int(10 * (guidance or 0)) + seed, config={"guidance": guidance}, summary=summary))  # fmt: skip
        return made

    found = compared(drawn(1.0) + drawn(2.0))
    assert found.best == {}
    assert found.remarks[0].startswith("no best: w2: guided samples follow another law than the data's")
    assert compared(drawn(None, floor=0.15) + drawn(1.0)).best == {}  # nor the ones that are not guided beside them
    assert compared(drawn(1.0, floor=0.15) + drawn(2.0, floor=0.15)).best == {"w2": 0}


def test_what_was_not_typed_and_follows_is_no_column() -> None:
    """A path's default grid; but a knob that an experiment sets is, though it was not typed."""

    def made(number: int, path: str, seed: int, **config: Any) -> Record:
        return training(
            path, seed, 1.0, number, config={"grid": {"name": "auto" if path == "ot" else "log_snr"}} | config
        )

    found = compared([made(0, "ot", 0), made(1, "ot", 1), made(2, "vp", 0), made(3, "vp", 1)])
    assert found.keys == ("path",)
    found = compared(
        [
            made(0, "ot", 0),
            made(1, "ot", 0, batch_size=9),
            made(2, "vp", 0, batch_size=8),
            made(3, "ot", 0, batch_size=8),
        ]
    )
    assert found.keys == ("path", "batch_size") and [row.keys["batch_size"] for row in found.rows] == [
        "",
        "8",
        "9",
        "8",
    ]


def test_runs_of_the_same_choices_are_told_apart_by_name_or_counted_once() -> None:
    plain, changed = drawing("heun", 0, 0.3, 0), drawing("heun", 0, 0.2, 1, name="mine")
    assert [row.keys["name"] for row in compared([plain, changed]).rows] == ["", "mine"]
    again = drawing("heun", 0, 0.2, 1)
    found = compared([plain, again])
    assert [row.records for row in found.rows] == [(again,)] and "1 older job of the same choices" in found.remarks[1]
    more = drawing("heun", 0, 0.0, 1, summary={"metrics": {"nll": {"value": 1.0}}, "directions": {"nll": "lower"}})
    (row,) = compared([plain, more]).rows
    assert {"w2", "nll"} < row.figures.keys() and row.figures["w2"].figure.value == 0.3


def test_figures_of_the_field_alone_are_in_rows_of_their_own() -> None:
    """A likelihood has no sampler, though its config has the usual one."""
    records = [drawing(sampler, 0, 0.3, i)._replace(verb="evaluate") for i, sampler in enumerate(("heun", "em"))]
    summary = {"metrics": {"nll": {"value": 1.0, "error": 0.1}}, "directions": {"nll": "lower"}}
    records.append(drawing("heun", 0, 0.0, 2)._replace(verb="evaluate", summary=summary))
    found = compared(records)
    assert [row.keys for row in found.rows] == [{"sampler": "heun"}, {"sampler": "em"}, {"sampler": ""}]
    assert [next(iter(row.figures)) for row in found.rows] == ["w2", "w2", "nll"]
    assert [row[0].text for row in grid_of(found).rows] == ["heun", "em", "(field)"]


def test_where_and_by_choose_rows() -> None:
    records, runs = question(0.2)
    found = compared(records, runs, where=["path=ot"])
    assert found.keys == ("sampler",) and len(found.rows) == 2
    assert len(compared(records, runs, where=["run.seed=0,1", "sampler=em"]).rows[0].records) == 4
    found = compared(records, runs, by=["path"])
    assert [row.keys for row in found.rows] == [{"path": "ot"}, {"path": "vp"}]
    assert found.rows[1].figures["nfe"].figure.value == 15.0 and found.rows[1].figures["w2"].n == 6
    without = [
        each for each in records if not (each.words["sampler"] == "em" and each.config["run"].startswith("runs/vp"))
    ]
    assert "averages over different values of sampler=" in compared(without, runs, by=["path"]).remarks[0]
    for about, says in (({"where": ["pth=ot"]}, "where: no job has 'pth' (did you mean 'path'?)"),
                        ({"where": ["path=ve"]}, "where: no job has path=ve; there are path=ot,vp"),
                        ({"where": ["path"]}, "must be key=value"), ({"by": ["smpler"]}, "by: no job has 'smpler'")):  # fmt: skip
        with pytest.raises(UserError) as refused:
            compared(records, runs, **about)
        assert says in str(refused.value)


def test_samples_of_one_training_say_so_and_panels_are_titled_by_choices() -> None:
    records, runs = question(0.2)
    found = compared(records, runs)
    assert found.remarks[-1] == "+- is the sd over 3 x 2 seeds (run.seed x seed)"
    first = [each for each in records if each.config["run"] in ("runs/ot0", "runs/vp0")]
    assert (
        compared(first, runs).remarks[-1].endswith("seeds (seed); of one training each, and another may differ by more")
    )
    one_noise = compared([each for each in records if each.words["seed"] == "0"], runs)
    assert "all are sampled with one noise" in one_noise.remarks[-1] and one_noise.rows[0].figures["w2"].shared
    (_, cell), *_ = cells_of(records, found)
    assert cell.overrides == {"path": "ot", "sampler": "heun", "seed": "0"}  # and no folder of a run
    assert cells_of(records, None)[0][1].overrides["run"] == "runs/ot0"


def test_jobs_without_figures_are_left_out_and_counted() -> None:
    records = [drawing("heun", 0, 0.3), drawing("em", 0, 0.2, 1), drawing("em", 1, 0.2, 2, state="failed"),
               drawing("em", 1, 0.2, 3, summary={"metrics": {}})]  # fmt: skip
    found = compared(records)
    assert "left out: 1 failed, 1 without figures of 4 jobs" in found.remarks
    with pytest.raises(UserError, match="of 1 jobs none is finished"):
        compared(records[2:3])
    broken = [drawing("em", seed, value, seed + 4) for seed, value in enumerate((float("nan"), 0.1, 0.1))]
    found = compared([*records[:1], *broken])
    assert found.best == {} and np.isnan(
        found.rows[1].figures["w2"].figure.value
    )  # one that diverged is not passed over


def test_single_runs_are_compared_at_the_test_points_they_share(tmp_path: Path) -> None:
    """Their likelihoods differ by 0.1 at each point, and by 3 from point to point; not where the points are others."""
    draw = np.random.default_rng(0)
    x, hard = draw.normal(size=(200, 2)), 3 * draw.normal(size=200)
    records = []
    for i, sampler in enumerate(("heun", "em")):
        log_p = hard - 0.1 * i + 0.01 * draw.normal(size=200)
        figure = {"value": float(-log_p.mean()), "error": float(log_p.std() / np.sqrt(200))}
        summary = {
            "metrics": {"nll": figure},
            "units": {"nll": "nats"},
            "directions": {"nll": "lower"},
            "likelihood": {"change": 1e-4},
        }
        (tmp_path / str(i)).mkdir()
        np.savez(tmp_path / str(i) / "likelihood.npz", log_p=log_p, x=x)
        records.append(drawing(sampler, 0, 0.0, i, summary=summary, folder=tmp_path / str(i)))
    found = compared(records)
    assert found.best == {"nll": 0} and "paired by test point" in found.remarks[0]
    np.savez(tmp_path / "1" / "likelihood.npz", log_p=log_p, x=x + 1e-3)
    assert compared(records).best == {}


def test_samples_of_other_steps_are_other_rows_where_they_are_judged_apart() -> None:
    """evaluate samples= draws nothing, and so counts no evaluations; of equal choices the folders tell the samples apart."""

    def judged(number: int, steps: int, w2: float) -> Record:
        config = {
            "run": "runs/ot0",
            "samples": f"drawn/{number}",
            "sampler": {"name": "heun"},
            "steps": steps,
            "seed": 0,
        }
        figure = {"value": w2, "error": 0.01, "floor": 0.15, "points": 500}
        summary = {"n": 500, "metrics": {"w2": figure}, "directions": {"w2": "lower"}}
        return record("evaluate", config, summary, {"samples": f"drawn/{number}"}, number=number)

    runs = {"runs/ot0": training("ot", 0, 1.0)}
    found = compared([judged(0, 5, 0.5), judged(1, 20, 0.3)], runs)
    assert [row.keys.get("steps") for row in found.rows] == ["5", "20"]
    found = compared([judged(0, 5, 0.5), judged(1, 5, 0.3)], runs)
    assert [row.keys.get("samples") for row in found.rows] == ["drawn/0", "drawn/1"]


def test_names_of_jobs_and_of_runs_tell_jobs_apart_both_at_once() -> None:
    records = [drawing("heun", 0, 0.3, 0, name="a"), drawing("heun", 0, 0.2, 1, name="b")]
    records += [drawing("em", 0, 0.3, 2 + i, run=f"runs/ot{i}") for i in range(2)]
    found = compared(records, {f"runs/ot{i}": training("ot", 0, 1.0, name=f"mine {i}") for i in range(2)})
    assert len(found.rows) == 4 and not any("left out" in remark for remark in found.remarks)
    assert {row.keys["run.name"] for row in found.rows} == {"", "mine 0", "mine 1"}


def test_a_training_done_twice_is_one() -> None:
    """Its samples are of the same choices and seeds, the newest taken, whatever its folder; not where the runs are gone."""
    records = [drawing("heun", k % 2, 0.3 + 0.01 * k, k, run=f"runs/{k // 2}", provenance={"used": {"run": f"of{k // 2}"}})
               for k in range(4)]  # fmt: skip
    runs = {f"runs/{i}": training("ot", 0, 1.0, 10 + i) for i in range(2)}
    found = compared(records, runs)
    assert found.keys == () and [row.figures["w2"].n for row in found.rows] == [2]
    assert found.rows[0].records == tuple(records[2:])
    found = compared(records, runs, by=["run", "sampler"])
    assert found.keys == ("run", "sampler") and [row.keys["run"] for row in found.rows] == ["id10", "id11"]
    called = {folder: run._replace(name="mine") for folder, run in runs.items()}
    assert [row.keys["run"] for row in compared(records, called, by=["run"]).rows] == ["id10", "id11"]
    called["runs/1"] = called["runs/1"]._replace(name="other")
    assert [row.keys["run"] for row in compared(records, called, by=["run"]).rows] == ["mine", "other"]
    found = compared(records)
    assert found.keys == ("run",) and [row.keys["run"] for row in found.rows] == ["of0", "of1"]
    assert [row.keys for row in compared(list(runs.values()), by=["run"]).rows] == [{"run": "id10"}, {"run": "id11"}]


def test_jobs_of_several_sweeps_are_called_by_their_ids() -> None:
    """Numbers tell jobs of one sweep apart alone."""
    records = [drawing(sampler, 0, w2, i) for i, (sampler, w2) in enumerate((("heun", 0.3), ("em", 0.9)))]
    assert "sampler=heun (job 0); the next is sampler=em (job 1)" in compared(records).remarks[0]
    records[1] = records[1]._replace(sweep=Path("other"))
    assert "sampler=heun (job id0); the next is sampler=em (job id1)" in compared(records).remarks[0]


def test_errors_are_explained_where_there_are_some() -> None:
    records = [drawing(sampler, 0, 0.3, i) for i, sampler in enumerate(("heun", "em"))]
    assert compared(records).remarks[-1].startswith("+- is the standard error of measuring")
    bare = {"metrics": {"w2": {"value": 0.3}}}
    records = [drawing(sampler, 0, 0.3, i, summary=bare) for i, sampler in enumerate(("heun", "em"))]
    assert not any("+-" in remark for remark in compared(records).remarks)


def test_what_averaged_targets_leave_of_a_loss_is_not_ranked_with_the_whole() -> None:
    records = [
        training(
            "ot", seed, 2.0 - points / 1024 + 0.01 * seed, 3 * (points > 0) + seed, config={"posterior_points": points}
        )
        for points in (0, 1024)
        for seed in range(3)
    ]
    found = compared(records)
    assert (
        found.best == {}
        and found.remarks[0] == "no best: loss: the loss means something else with each posterior_points="
    )


def test_a_figure_of_two_directions_is_not_ranked() -> None:
    """As older summaries have it, of which the table of metrics said something else."""
    other = drawing("em", 0, 0.9, 1, summary={"directions": {"w2": "higher"}})
    found = compared([drawing("heun", 0, 0.3), other])
    assert found.best == {} and "no best: w2: its directions differ: higher, lower" in found.remarks[0]
