"""Hydra's multirun: jobs of one structure as one program, resumed sweeps, and a table at the end of each sweep.

Imported for sweeps only, since Hydra's plugins are slow to import.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from functools import partial, update_wrapper
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, run_job, setup_globals
from hydra.experimental.callback import Callback
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from diffsde import signals, system_errors
from diffsde.cli.composing import GridSweeper
from diffsde.cli.job import VERBS, Jobs, about_to, draws_nothing_unasked, job_config, words_of
from diffsde.errors import UserError, suggestion
from diffsde.runs import files, folder, leaving, locks, provenance

if TYPE_CHECKING:  # the module imports jax, and every command imports this module for SweepRecord
    from diffsde.runs.jobs import Outcome

TOGETHER = {
    "auto": "vmap on an accelerator, each on CPU, where it is as fast and takes less memory",
    "vmap": "jobs that differ in numbers alone are one vmapped program",
    "each": "one after another, those that differ in numbers alone by one compiled program",
}
MODULE = "hydra_plugins.diffsde"  # the only package that Hydra takes plugins from


class Sweep:
    """The sweep of a command line: its folder, locked against other processes while the sweep runs."""

    def __init__(self) -> None:
        self.folder: Path | None = None
        self.asked: Path | None = None  # the same, before it is locked
        self.lock = ExitStack()

    def enter(self, where: Path) -> None:
        """Create and lock the folder. Raises UserError where another process holds the lock, or a link leads out of it."""
        folder.check_links(where)
        self.asked = where
        if not (where / "sweep.json").exists():  # else an earlier command made it
            leaving.will_make(where)
        with system_errors.naming(where):
            where.mkdir(parents=True, exist_ok=True)
        self.lock.enter_context(locks.held(where))
        self.folder = where

    def finish(self, compares: bool = True) -> list[str]:
        """Write the tables and pictures of the sweep that ran, and compare its jobs; one line per job that was refused."""
        from diffsde.cli.sweep_end import end_sweep  # here: it imports scipy, which other commands need not wait for

        return [] if self.folder is None else end_sweep(self.folder, compares)

    def stopped(self, again: bool) -> str:
        """Tidy the folder, where a signal ends the sweep, and say what is kept there."""
        self.lock.close()
        return leaving.left_by_sweep(self.asked, again)

    def leave(self, begun: bool) -> None:
        """Unlock the folder, and remove it if no job has begun."""
        self.lock.close()
        where, self.folder = self.folder, None
        if where and where.is_dir() and not begun and not any(entry.is_dir() for entry in where.iterdir()):
            leaving.remove_sweep(where)


_sweep: ContextVar[Sweep] = ContextVar("sweep")  # the command's sweep, for the callback that Hydra creates


@contextmanager
def running(jobs: Jobs, again: bool) -> Iterator[Sweep]:
    """A context with the sweep of a command line, around Hydra's run of its jobs; `jobs` records whether any has begun.

    again: whether the same command goes on with it.
    """
    sweep = Sweep()
    token = _sweep.set(sweep)
    try:
        with signals.leaving(partial(sweep.stopped, again)):
            yield sweep
    finally:
        _sweep.reset(token)
        sweep.leave(begun=bool(jobs.begun))


class BatchLauncher(Launcher):
    """hydra/launcher=batch: runs all jobs of a multirun, together as one program where possible. together: a key of TOGETHER."""

    def __init__(self, together: str) -> None:
        if together not in TOGETHER:
            raise UserError(f"hydra.launcher.together '{together}' is not known{suggestion(together, TOGETHER)}")
        self.how = together

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.context, self.config = hydra_context, config
        self.task: partial[Any] = task_function  # type: ignore[assignment]  # of run_job, which also accepts an outcome

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        setup_globals()
        configs = []
        for number, overrides in enumerate(job_overrides, initial_job_idx):
            config = self.context.config_loader.load_sweep_config(self.config, list(overrides))
            with open_dict(config):
                config.hydra.job.id = str(number)
                config.hydra.job.num = number
            configs.append(config)
        for place in map(folder_of, configs):
            if place.exists() and not place.is_dir():
                raise UserError(f"'{place}': a file stands where a job's folder is to be; move it")
        outcomes = self.outcomes_together(configs) if self.how != "each" else [None] * len(configs)
        return [
            run_job(
                hydra_context=self.context,
                task_function=update_wrapper(partial(self.task, outcome=outcome), self.task),
                config=config,
                job_dir_key="hydra.sweep.dir",
                job_subdir_key="hydra.sweep.subdir",
            )
            for config, outcome in zip(configs, outcomes, strict=True)
        ]

    def outcomes_together(self, configs: list[DictConfig]) -> Sequence[Outcome | None]:
        """The outcomes of all jobs, computed together before Hydra runs them one by one; None per job where this is not done.

        That is so for verbs without `together`, on CPU with together=auto, for several processes, and with run=.
        """
        import jax

        from diffsde.runs import machine

        verb = str(configs[0].hydra.job.config_name)
        module = importlib.import_module(VERBS[verb])
        words = [words_of(config.hydra.overrides.task) for config in configs]
        plain = [job_config(config, verb, True, said) for config, said in zip(configs, words, strict=True)]
        if not hasattr(module, "together") or (verb == "train" and any(config["run"] for config in plain)):
            return [None] * len(configs)  # with run=, each job is refused on its own
        machine.configure_process(plain[0])
        if (self.how == "auto" and jax.default_backend() == "cpu") or jax.process_count() > 1:
            return [None] * len(configs)
        outs = [folder_of(config) for config in configs]
        with provenance.given(self.task.keywords["jobs"].command, dict(zip(outs, words, strict=True))):
            outcomes: Sequence[Outcome] = module.together(list(zip(plain, outs, strict=True)))
        return outcomes


def folder_of(config: DictConfig) -> Path:
    """The folder of a sweep's job."""
    return Path(os.path.abspath(Path(config.hydra.sweep.dir, str(config.hydra.sweep.subdir))))


PLUGINS = (BatchLauncher, GridSweeper)


class SweepRecord(Callback):
    """Hydra callback that records a sweep's words in sweep.json when it begins, so that the same command can resume it."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        place = Path(os.path.abspath(config.hydra.run.dir))
        leaving.will_make(place)
        about_to.get([]).append(place)

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        where = Path(config.hydra.sweep.dir)
        try:
            with system_errors.as_user_errors():
                _sweep.get().enter(where)
        except UserError as error:
            raise SystemExit(str(error)) from error  # for any other exception of a callback Hydra only warns
        words = words_of(config.hydra.overrides.task)
        verb = str(config.hydra.job.config_name)
        if draws_nothing_unasked(verb, words):
            print("pictures: one of the sweep; of each job too with 'pictures=[default]'", flush=True)
        files.write_json(where / "sweep.json", {"verb": verb, "words": words})


def register_plugins() -> None:
    """Register launcher and sweeper with Hydra, in the one package from which it loads plugins."""
    if MODULE not in sys.modules:
        package, _, name = MODULE.partition(".")
        if importlib.util.find_spec(package) is None:  # there where another launcher is installed
            sys.modules[package] = ModuleType(package)
            sys.modules[package].__path__ = []
        module = ModuleType(MODULE)
        setattr(importlib.import_module(package), name, module)
        for plugin in PLUGINS:
            setattr(module, plugin.__name__, plugin)
            plugin.__module__ = MODULE
        sys.modules[MODULE] = module
    for plugin in PLUGINS:
        Plugins.instance().register(plugin)


def unfinished_sweep(verb: str, words: list[str]) -> Path | None:
    """The newest sweep under outputs/ of this verb and these words that has no sweep.csv and is not being written."""
    return folder.newest(
        path
        for path in (folder.OUTPUTS / verb).glob("*/*/sweep.json")
        if not os.path.exists(path.with_name("sweep.csv"))
        and files.read_json(path, neighbour=True) == {"verb": verb, "words": words}
        and not locks.is_held(path.parent)
        and not (verb == "train" and any(map(folder.is_of_before, path.parent.iterdir())))
    )
