"""The multirun side of Hydra: jobs of one structure as one program, sweeps that go on, and a table at the end of each.

With cli.py the only file that imports hydra.
"""

from __future__ import annotations

import csv
import importlib
import importlib.util
import json
import math
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, run_job, setup_globals
from hydra.experimental.callback import Callback
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from matplotlib.figure import Figure
from omegaconf import DictConfig, OmegaConf, open_dict

from diffsde import cli
from diffsde.errors import UserError, suggestion
from diffsde.plots.sweep import Point, sweep_figure
from diffsde.runs import folder, report
from diffsde.runs.pictures import save_figure
from diffsde.runs.quality import judged, off
from diffsde.types import is_number

TOGETHER = {
    "auto": "vmap on an accelerator, each on CPU, where it is as fast and takes less memory",
    "vmap": "jobs that differ in numbers alone are one vmapped program",
    "each": "one after another, those that differ in numbers alone by one compiled program",
}
MODULE = "hydra_plugins.diffsde"  # the only package that Hydra takes plugins from

_lock = ExitStack()  # held on the sweep's folder while it runs
_entered: list[Path] = []  # that folder


class BatchLauncher(Launcher):
    """hydra/launcher=batch: takes all jobs of a multirun at once. together: a key of TOGETHER."""

    def __init__(self, together: str) -> None:
        if together not in TOGETHER:
            raise UserError(f"hydra.launcher.together '{together}' is not known{suggestion(together, TOGETHER)}")
        self.how = together

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.context, self.task, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        setup_globals()
        configs = []
        for number, overrides in enumerate(job_overrides, initial_job_idx):
            config = self.context.config_loader.load_sweep_config(self.config, list(overrides))
            with open_dict(config):
                config.hydra.job.id = str(number)
                config.hydra.job.num = number
            configs.append(config)
        if self.how != "each":
            self.run_together(configs)
        return [
            run_job(
                hydra_context=self.context,
                task_function=self.task,
                config=config,
                job_dir_key="hydra.sweep.dir",
                job_subdir_key="hydra.sweep.subdir",
            )
            for config in configs
        ]

    def run_together(self, configs: list[DictConfig]) -> None:
        """Do the jobs' work before Hydra comes to them one by one; on CPU, left to choose, leave it to that."""
        import jax

        from diffsde.runs import runtime

        verb = str(configs[0].hydra.job.config_name)
        module = importlib.import_module(cli.VERBS[verb])
        plain = [cli.plain(config) for config in configs]
        if not hasattr(module, "together") or (verb == "train" and any(config["run"] for config in plain)):
            return  # the latter are refused, each as its own job
        runtime.begin(plain[0])
        if (self.how == "auto" and jax.default_backend() == "cpu") or jax.process_count() > 1:
            return
        outs = [
            Path(os.path.abspath(Path(config.hydra.sweep.dir, str(config.hydra.sweep.subdir)))) for config in configs
        ]
        outcomes = module.together(list(zip(plain, outs, strict=True)))
        cli.prepared.update({str(out): outcome for out, outcome in zip(outs, outcomes, strict=True)})


class Ledger(Callback):
    """Notes a sweep's words when it begins, so that the same command finds it, and where it writes, for its table."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        where = Path(config.hydra.sweep.dir)
        where.mkdir(parents=True, exist_ok=True)
        try:
            _lock.enter_context(folder.held(where))
        except UserError as error:
            raise SystemExit(str(error)) from error  # of what a callback raises, Hydra only warns else
        _lock.callback(_entered.clear)
        _entered.append(where)
        words = [str(word) for word in config.hydra.overrides.task]
        folder.write_json(where / "sweep.json", {"verb": str(config.hydra.job.config_name), "words": words})


def register() -> None:
    """Make the launcher known to Hydra, under the one package that it takes plugins from."""
    if MODULE not in sys.modules:
        package, _, name = MODULE.partition(".")
        if importlib.util.find_spec(package) is None:  # there where another launcher is installed
            sys.modules[package] = ModuleType(package)
            sys.modules[package].__path__ = []
        module = ModuleType(MODULE)
        setattr(importlib.import_module(package), name, module)
        module.BatchLauncher = BatchLauncher  # type: ignore[attr-defined]
        sys.modules[MODULE] = module
        BatchLauncher.__module__ = MODULE
    Plugins.instance().register(BatchLauncher)


def leave(begun: bool) -> None:
    """Give the sweep's folder back, and remove it where no job has begun."""
    places = list(_entered)
    _lock.close()
    for where in places:
        if not begun and not any(entry.is_dir() for entry in where.iterdir()):
            for name in ("sweep.json", "multirun.yaml"):
                (where / name).unlink(missing_ok=True)
            cli.remove_empty(where)


def unfinished(verb: str, words: list[str]) -> Path | None:
    """The newest sweep under outputs/ of this verb and these words that has no sweep.csv and is not being written."""
    return folder.newest(
        path
        for path in (folder.OUTPUTS / verb).glob("*/*/sweep.json")
        if not path.with_name("sweep.csv").exists()
        and folder.read_json(path) == {"verb": verb, "words": words}
        and not folder.is_held(path.parent)
    )


def finish() -> list[str]:
    """Write sweep.csv and sweep.png of the sweep that ran: a line for each job that was refused."""
    return [line for where in _entered for line in summarise(where)]


class Row(NamedTuple):
    """A job: its overrides, `done` or why it was refused, its figures, and the one that it is judged by.

    known: what is known of that figure: `exact`, `real`, `floor`, `error`.
    """

    job: str
    overrides: dict[str, str]
    status: str
    figures: dict[str, Any]
    name: str = ""
    value: float = math.nan
    known: dict[str, float] = {}

    def off(self) -> float:
        """The least is the best (quality.off)."""
        return off({"value": self.value, **self.known})

    def words(self, keys: Sequence[str] | None = None) -> str:
        return " ".join(f"{key}={value}" for key, value in self.overrides.items() if keys is None or key in keys)


def summarise(where: Path) -> list[str]:
    """Write sweep.csv and sweep.png of the jobs' folders: a line for each job that was refused."""
    rows = [row for row in map(row_of, sorted(where.iterdir(), key=_number)) if row]
    if not rows:
        return []
    swept = list(dict.fromkeys(key for row in rows for key in row.overrides))
    named = list(dict.fromkeys(key for row in rows for key in row.figures if key not in swept))
    table = [
        [
            row.job,
            *(row.overrides.get(key, "") for key in swept),
            row.status,
            *(row.figures.get(key, "") for key in named),
        ]
        for row in rows
    ]
    folder.write(where / "sweep.csv", lambda path: _write_csv(path, [["job", *swept, "status", *named], *table]))
    lines = [("table", report.shown(where / "sweep.csv"))]
    done = [row for row in rows if row.status == "done"]
    if figure := picture(done, swept):
        lines.append(("picture", report.shown(save_figure(where / "sweep.png", figure))))
    if done:
        best = min(done, key=Row.off)
        exact = "".join(f" ({name}: {best.known[name]:.4g})" for name in ("exact", "real") if name in best.known)
        said = f"{best.name.replace('_', ' ')} {best.value:.4g}{exact}, job {best.job}"
        lines.append(("best", f"{said}: {best.words(varied(done, swept) or swept)}"))
    report.table(f"swept {len(done)} of {len(rows)} jobs", lines)
    return [f"job {row.job} ({row.words()}): {row.status}" for row in rows if row.status != "done"]


def _write_csv(path: Path, rows: list[list[Any]]) -> None:
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows(rows)


def _number(path: Path) -> tuple[int, str]:
    return (int(path.name), "") if path.name.isdigit() else (sys.maxsize, path.name)


def row_of(job: Path) -> Row | None:
    """What a job's folder says of it; None where it says nothing."""
    if (job / "summary.json").exists():
        summary = folder.read_summary(job)
        name, figure = judged(summary)
        known = {key: value for key, value in figure.items() if key != "value"}
        overrides = split_words(_overrides(job))
        return Row(job.name, overrides, "done", dict(flat(summary)), name, figure["value"], known)
    if (job / "error.json").exists():
        content = json.loads((job / "error.json").read_text())
        return Row(job.name, split_words(content.get("overrides") or _overrides(job)), content["error"], {})
    return None


def _overrides(job: Path) -> list[str]:
    path = job / ".hydra" / "overrides.yaml"
    return [str(word) for word in OmegaConf.load(path)] if path.exists() else []


def split_words(words: Sequence[str]) -> dict[str, str]:
    return {key: value for key, _, value in (word.partition("=") for word in words)}


def flat(value: Any, name: str = "") -> list[tuple[str, Any]]:
    """(dotted name, number or word) of everything in nested dicts; a figure's `value` goes by the figure's own name."""
    if not isinstance(value, dict):
        return [(name, value)]
    pairs = []
    for key, item in value.items():
        pairs += flat(item, name if key == "value" else f"{name}.{key}" if name else str(key))
    return [(key.removeprefix("metrics."), item) for key, item in pairs]


def varied(rows: list[Row], swept: list[str]) -> list[str]:
    """The keys that differ between the jobs."""
    return [key for key in swept if len({row.overrides.get(key) for row in rows}) > 1]


def picture(rows: list[Row], swept: list[str]) -> Figure | None:
    """The figure that the jobs are judged by against what was swept; None where there is nothing to compare."""
    differing = varied(rows, swept)
    across = [key for key in differing if key != "seed"] or differing
    if not across:
        return None

    def spread(key: str) -> tuple[bool, int]:
        words = {row.overrides.get(key, "") for row in rows}
        return all(map(is_number, words)), len(words)

    x = max(across, key=spread)
    rest = [key for key in across if key != x]
    points = [Point(row.overrides.get(x, ""), row.value, row.words(rest), row.known.get("error", 0.0)) for row in rows]
    line = next(
        (
            (name, float(rows[0].known[name]))
            for name in ("exact", "real", "floor")
            if name in rows[0].known and len({f"{row.known.get(name, 0.0):.2g}" for row in rows}) == 1
        ),
        None,
    )
    return sweep_figure(points, x, rows[0].name.replace("_", " "), line)
