"""How near one to eight evaluations come: flow maps of every family beside solvers of a velocity network, on five data sets.

    python scripts/few_steps.py [--data gmm moons checkerboard digits mnist] [--steps 2000] [--out outputs/few_steps]
    python scripts/few_steps.py --table --picture docs/pictures/few_steps.png     # of what --out holds

rms: sqrt(E |X_theta - X|^2) of 2,048 noises (512 of images), X_theta the model and X the map that is aimed at: of gmm the exact one, of
others that of a velocity network of another seed and three times the steps, by 64 steps of RK4. W2: exact, of sets of 512 points (the
mean of W2^2 over them), beside that of two sets of true points. All networks of one data set have the same size, batch and
number of steps; a distilled one also needs its teacher, the velocity network. CPU: seconds of training, compiling included.
MNIST is read from $DIFFSDE_DATA, by experiment=mnist_quick's network and batch; a row a data set and method in OUT/DATA.json.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import diffsde
from diffsde.fields import Field, FlowMap, OracleField, solved
from diffsde.metrics.distances import MOST, transport
from diffsde.metrics.figures import rms_distance
from diffsde.samplers import SAMPLERS, LoopSettings, prior, simulate_compiled, times
from diffsde.samplers.grids import CosineGrid, Grid, LogSNRGrid, QuadraticGrid, ShiftedGrid, UniformGrid
from diffsde.types import Array

NFE = (1, 2, 4, 8)
DIVERGED = 100.0  # figures from which a run is said to have diverged: no data set here is as wide
IMAGES: dict[str, Any] = {"time": "logit_normal", "optimizer": "muon", "batch_size": 64}
DATA: dict[str, dict[str, Any]] = {
    "gmm": {"dataset": "gmm"},
    "moons": {"dataset": "moons"},
    "checkerboard": {"dataset": "checkerboard"},
    "digits": {**IMAGES, "dataset": "digits", "net": {"name": "mixer", "patch": 2, "overlap": 1}},
    "mnist": {**IMAGES, "dataset": "mnist", "net": "mixer"},
}
SCRATCH = ("meanflow", "eulerian", "lagrangian", "semigroup", "shortcut", "consistency")
DISTILLED = ("lagrangian", "progressive")
SOLVERS = ("euler", "midpoint", "heun", "ab2", "ddim", "dpmpp_2m", "unipc", "deis2")
GRIDS: dict[str, Grid] = {
    "uniform": UniformGrid(),
    "cosine": CosineGrid(),
    "quadratic": QuadraticGrid(),
    "shifted": ShiftedGrid(shift=2.0),
    "log_snr": LogSNRGrid(low=-3.0, high=2.0),
}


class Judge(NamedTuple):
    """What samples are held against: noises x0 (n, *shape), where the map takes them, and sets of true points (sets, 512, d)."""

    x0: Array
    ends: np.ndarray
    truth: np.ndarray

    def w2(self, x: np.ndarray) -> float:
        """W2 of samples (n, *shape) and true points, in sets of 512."""
        return w2_of(x.reshape(-1, MOST, x[0].size), self.truth)


def w2_of(one: np.ndarray, other: np.ndarray) -> float:
    """sqrt of the mean of W2^2 over pairs of sets (sets, n, d)."""
    return float(np.sqrt(np.mean([transport(*pair).cost for pair in zip(one, other, strict=False)])))


def trained(words: dict[str, Any], folder: Path) -> tuple[diffsde.Run, float]:
    """The run in a folder, trained where it is not there yet, and the CPU seconds that training took."""
    kept = folder.with_suffix(".cpu")
    if not kept.exists():
        before = cpu()
        diffsde.train(folder=folder, pictures="none", **words)
        kept.write_text(str(cpu() - before))
    return diffsde.load(folder), float(kept.read_text())


def cpu() -> float:
    """CPU seconds of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def followed(field: Field, x0: Array, steps: int) -> np.ndarray:
    """Where the field's ODE takes noises: its own map where it has one, else RK4's."""
    if isinstance(field, OracleField):
        one = jax.jit(lambda x: jax.lax.map(lambda x: field.jump(x, 0.0, 1.0), x, batch_size=512))
    else:
        one = jax.jit(lambda x: jax.lax.map(lambda x: solved(field, x, 0.0, 1.0, steps), x, batch_size=512))
    return np.asarray(one(x0))


def judge_of(run: diffsde.Run, teacher: Field, images: bool) -> Judge:
    """The judge of a data set's runs; teacher: the field whose map is aimed at."""
    n = MOST if images else 4 * MOST
    field, dataset = run.field, run.dataset
    assert field is not None and dataset is not None
    x0 = prior(field.path, jnp.asarray(0.0), field.shape, jax.random.key(7), n)
    points = np.asarray(dataset.true_points(None, jax.random.key(8), 2 * n))
    return Judge(x0, followed(teacher, x0, 64), points.reshape(-1, MOST, points[0].size))


def drawn(field: Field, sampler: str, grid: Grid, steps: int, x0: Array) -> np.ndarray:
    """Samples from noises x0 in so many steps."""
    at = np.pad(np.asarray(times(grid, steps, field.path)), (0, 8 - steps), mode="edge")
    settings = LoopSettings("step", chunk=MOST)
    key, count = jax.random.key(9), np.int32(steps)
    return np.asarray(simulate_compiled(SAMPLERS[sampler](), field, x0, at, key, None, count, settings).x)


def measured(judge: Judge, x: np.ndarray, how: str) -> dict[str, Any]:
    """The figures of samples: rms with its error, and W2."""
    found = rms_distance(x, judge.ends)
    return {"rms": found.value, "error": found.error, "w2": judge.w2(x), "how": how}


def by_solver(field: Field, judge: Judge, names: tuple[str, ...], grids: dict[str, Grid]) -> dict[int, dict[str, Any]]:
    """For each number of evaluations the figures of the best of some solvers and grids, by rms."""
    rows = {}
    for nfe in NFE:
        able = []
        for name in names:
            steps, left = divmod(nfe, SAMPLERS[name].evaluations)
            for grid, placed in grids.items():
                if left or not steps or (steps == 1 and grid != "uniform"):
                    continue
                x = drawn(field, name, placed, steps, judge.x0)
                if np.isfinite(x).all():
                    able.append((rms_distance(x, judge.ends).value, f"{name}, {grid}", x))
        if able:
            best = min(able, key=lambda each: each[0])
            rows[nfe] = measured(judge, best[2], best[1])
    return rows


def by_jumps(field: FlowMap, judge: Judge) -> dict[int, dict[str, Any]]:
    """The figures of a flow map's jumps; of one that jumps to t = 1 alone, with fresh noise between them."""
    name = "flow_map" if field.knows_velocity else "consistency"
    rows = {n: measured(judge, drawn(field, name, UniformGrid(), n, judge.x0), name) for n in NFE}
    return {n: row if n == 1 or name == "flow_map" else without_rms(row) for n, row in rows.items()}


def without_rms(row: dict[str, Any]) -> dict[str, Any]:
    """The figures of samples with fresh noise on the way, which a map of the first noise alone is not compared with."""
    return {key: value for key, value in row.items() if key not in ("rms", "error")}


def measure(
    name: str, steps: int, out: Path, objectives: tuple[str, ...], distilled: tuple[str, ...]
) -> dict[str, Any]:
    """All rows of a data set, written to OUT/NAME.json after each."""
    words = {**DATA[name], "steps": steps, "log_every": max(1, steps // 10)}
    base, cpu_of_base = trained({**words, "objective": "cfm"}, out / name / "cfm")
    assert base.field is not None and base.dataset is not None
    exact = base.dataset.exact_field(base.field.path) if base.dataset.law() is not None else None
    teacher: Field | None = exact
    if teacher is None:
        teacher = trained({**words, "objective": "cfm", "steps": 3 * steps, "seed": 1}, out / name / "teacher")[0].field
    assert teacher is not None
    judge = judge_of(base, teacher, name in ("digits", "mnist"))
    sets = len(judge.truth) // 2
    found: dict[str, Any] = {"steps": steps, "floor": w2_of(judge.truth[:sets], judge.truth[sets:]), "rows": {}}
    if exact is None:
        found["target_w2"] = judge.w2(judge.ends)

    def keep(row: str, figures: dict[int, dict[str, Any]], cpu_seconds: float) -> None:
        found["rows"][row] = {"cpu": cpu_seconds, "by_nfe": figures}
        (out / f"{name}.json").write_text(json.dumps(found, indent=1))
        print(
            name,
            row,
            f"{cpu_seconds:.0f} s",
            {n: round(each["rms"], 3) for n, each in figures.items() if "rms" in each},
            flush=True,
        )

    uniform = {"uniform": GRIDS["uniform"]}
    keep("cfm, euler", by_solver(base.field, judge, ("euler",), uniform), cpu_of_base)
    keep("cfm, heun", by_solver(base.field, judge, ("heun",), uniform), cpu_of_base)
    keep("cfm, best solver", by_solver(base.field, judge, SOLVERS, GRIDS), cpu_of_base)
    made: list[tuple[str, dict[str, str]]] = [(objective, {}) for objective in objectives]
    made += [(f"{objective} from cfm", {"teacher": str(out / name / "cfm")}) for objective in distilled]
    for title, more in made:
        objective = title.split()[0]
        run, seconds = trained({**words, "objective": objective, **more}, out / name / title.replace(" ", "_"))
        assert isinstance(run.field, FlowMap)
        keep(title, by_jumps(run.field, judge), seconds + (cpu_of_base if more else 0))
    return found


def written(value: float) -> str:
    """A figure as text; of a run that diverged, the word."""
    return f"{value:.3g}" if value < DIVERGED else "diverged"


def table(out: Path, names: list[str]) -> str:
    """The measurements as Markdown: rms and W2 by number of evaluations."""
    lines = []
    for name in names:
        if not (out / f"{name}.json").exists():
            continue
        found = json.loads((out / f"{name}.json").read_text())
        beside = f", of the map aimed at {found['target_w2']:.3g}" if "target_w2" in found else ""
        lines += [
            "",
            f"**{name}**, {found['steps']:,} steps; W2 of true points {found['floor']:.3g}{beside}",
            "",
            "| | CPU s | " + " | ".join(f"rms {n}" for n in NFE) + " | " + " | ".join(f"W2 {n}" for n in NFE) + " |",
            "|---|---|" + "---|" * (2 * len(NFE)),
        ]
        for row, each in found["rows"].items():
            figures = [each["by_nfe"].get(str(n)) for n in NFE]
            cells = [written(f[key]) if f and key in f else "" for key in ("rms", "w2") for f in figures]
            lines.append(f"| {row} | {each['cpu']:.0f} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def picture(out: Path, names: list[str], path: Path) -> None:
    """rms against evaluations, a panel a data set, a line a method."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    found = {name: json.loads((out / f"{name}.json").read_text()) for name in names if (out / f"{name}.json").exists()}
    figure, panels = plt.subplots(
        1, len(found), figsize=(3.4 * len(found) + 2.2, 3.6), layout="constrained", squeeze=False
    )
    titles = list(dict.fromkeys(row for each in found.values() for row in each["rows"]))
    families = [title for title in titles if not title.startswith("cfm")]
    able = [colour for i, colour in enumerate(plt.get_cmap("tab10").colors) if i != 7]  # type: ignore[attr-defined]  # 7: grey
    colours = dict(zip(families, able, strict=False))
    greys = dict(zip([t for t in titles if t.startswith("cfm")], ("0.65", "0.4", "0.0"), strict=False))
    for panel, (name, each) in zip(panels[0], found.items(), strict=True):
        for title, row in each["rows"].items():
            at = [int(n) for n, figures in row["by_nfe"].items() if "rms" in figures]
            values = [figures["rms"] for figures in row["by_nfe"].values() if "rms" in figures]
            how = {"color": greys[title], "ls": "--"} if title in greys else {"color": colours[title]}
            panel.plot(at, values, marker="o", ms=4, lw=1.5, label=title, **how)
        panel.set(xscale="log", yscale="log", title=name, xlabel="evaluations of the network")
        panel.set_xticks(NFE, [str(n) for n in NFE])
        panel.minorticks_off()
        shown = [y for line in panel.get_lines() for y in line.get_ydata() if y < DIVERGED]
        panel.set_ylim(min(shown) / 1.3, max(shown) * 1.3)
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(alpha=0.25)
    panels[0, 0].set_ylabel("rms distance to the map aimed at")
    handles = {
        label: line for panel in panels[0] for line, label in zip(*panel.get_legend_handles_labels(), strict=True)
    }
    figure.legend([handles[t] for t in titles], titles, loc="outside right center", frameon=False, fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="+", default=list(DATA), choices=list(DATA))
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--objectives", nargs="*", default=list(SCRATCH))
    parser.add_argument("--distilled", nargs="*", default=list(DISTILLED))
    parser.add_argument("--out", type=Path, default=Path("outputs/few_steps"))
    parser.add_argument("--table", action="store_true", help="only the table of what --out holds")
    parser.add_argument("--picture", type=Path, help="draw rms against evaluations here")
    asked = parser.parse_args()
    begun = time.perf_counter()
    if not asked.table:
        for name in asked.data:
            measure(name, asked.steps, asked.out, tuple(asked.objectives), tuple(asked.distilled))
        print(f"{time.perf_counter() - begun:.0f} s", file=sys.stderr)
    print(table(asked.out, asked.data))
    if asked.picture:
        picture(asked.out, asked.data, asked.picture)


if __name__ == "__main__":
    main()
