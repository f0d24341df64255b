"""The multirun side of Hydra: jobs of one structure as one program, sweeps that go on, and a table at the end of each.

With cli.py and spelling.py the only file that imports hydra.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import Any

from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, run_job, setup_globals
from hydra.experimental.callback import Callback
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from diffsde import cli
from diffsde.composing import GridSweeper
from diffsde.errors import UserError, suggestion
from diffsde.runs import folder

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
        plain = [
            cli.job_config(config, verb, True, [str(word) for word in config.hydra.overrides.task])
            for config in configs
        ]
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


PLUGINS = (BatchLauncher, GridSweeper)


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
        verb = str(config.hydra.job.config_name)
        if cli.draws_nothing_unasked(verb, words):
            print("pictures: one of the sweep; of each job too with 'pictures=[default]'", flush=True)
        folder.write_json(where / "sweep.json", {"verb": verb, "words": words})


def register() -> None:
    """Make launcher and sweeper known to Hydra, under the one package that it takes plugins from."""
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
        if not os.path.exists(path.with_name("sweep.csv"))
        and folder.read_json(path, neighbour=True) == {"verb": verb, "words": words}
        and not folder.is_held(path.parent)
    )


def finish() -> list[str]:
    """Write sweep.csv and sweep.png of the sweep that ran: a line for each job that was refused."""
    from diffsde import sweep_table  # here: with the pictures it is a second that other commands need not wait for

    return [line for where in _entered for line in sweep_table.summarise(where)]
