"""Faster composition of a sweep's configs: jobs that differ in values alone share one composition by Hydra."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import get_overrides_dirname
from hydra._internal.core_plugins import basic_sweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, RangeSweep
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from diffsde.cli.common_fault import refuse_common
from diffsde.errors import UserError

BASES = 64  # most compositions in the cache
MOST = 10_000  # jobs of a sweep: more take days, and their list alone gigabytes


class Composer:
    """Hydra's config loader with a `load_sweep_config` that caches the composition of each combination of group choices.

    A composition takes 0.1 CPU seconds, setting values in a copy 0.01. All other attributes are the loader's own.
    """

    def __init__(self, loader: Any) -> None:
        self.loader = loader
        self.bases: dict[tuple[str, ...], DictConfig] = {}

    def __getattr__(self, name: str) -> Any:
        if name == "loader":  # not set yet while the object is unpickled in another process
            raise AttributeError(name)
        return getattr(self.loader, name)

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: Sequence[str]) -> DictConfig:
        """The config of one job, equal to that of the loader's own method."""
        words = list(sweep_overrides)
        parsed = OverridesParser.create().parse_overrides(words)
        plain = [override for override in parsed if self.is_plain(override)]
        choices = tuple(word for word, override in zip(words, parsed, strict=True) if not self.is_plain(override))
        if choices not in self.bases:
            if len(self.bases) >= BASES:
                self.bases.clear()
            self.bases[choices] = self.loader.load_sweep_config(master_config, list(choices))
        config = copy.deepcopy(self.bases[choices])
        try:
            for override in plain:
                OmegaConf.update(config, override.key_or_group, override.value(), merge=True)
        except (OmegaConfBaseException, AttributeError, TypeError, ValueError):  # the loader raises the right error
            return self.loader.load_sweep_config(master_config, words)
        config.hydra.overrides.task = [word for word, override in zip(words, parsed, strict=True) if is_own(override)]
        names = config.hydra.job.config.override_dirname
        config.hydra.job.override_dirname = get_overrides_dirname(
            overrides=[override for override in parsed if is_own(override)],
            kv_sep=names.kv_sep,
            item_sep=names.item_sep,
            exclude_keys=names.exclude_keys,
        )
        OmegaConf.copy_cache(from_config=master_config, to_config=config)
        return config

    def is_plain(self, override: Override) -> bool:
        """Whether an override only sets a value of the job's own config: no choice of a group, no addition, no deletion."""
        simple = not (override.is_add() or override.is_force_add() or override.is_delete())
        return simple and is_own(override) and not self.loader.repository.group_exists(override.key_or_group)


def is_own(override: Override) -> bool:
    """Whether an override concerns the job's own config, not Hydra's."""
    return not override.is_hydra_override()


def refuse_too_many(words: Sequence[str]) -> None:
    """Raise UserError for words whose combinations are more than MOST jobs; they are counted, not listed."""
    parsed = OverridesParser.create().parse_overrides(list(words))
    counts = {override.key_or_group: count_of(override) for override in parsed}  # the last word for a key counts
    jobs = math.prod(counts.values())
    if jobs > MOST:
        said = ", ".join(f"{key} {count:,}" for key, count in counts.items() if count > 1)
        raise UserError(
            f"-m would be {jobs:,} jobs, by the values of each key: {said}; a sweep has at most {MOST:,}, so give fewer values"
            " or take several sweeps"
        )


def count_of(override: Override) -> int:
    """How many values an override has in a sweep."""
    if not override.is_sweep_override() or not override.is_discrete_sweep():
        return 1
    value = override.value()
    if isinstance(value, RangeSweep) and value.start is not None and value.stop is not None:
        return max(0, math.ceil((float(value.stop) - float(value.start)) / float(value.step)))
    return sum(1 for _ in override.sweep_string_iterator())


class GridSweeper(Sweeper):
    """hydra/sweeper=grid: Hydra's basic sweeper (every combination), with configs composed by Composer before the first job."""

    def __init__(self, max_batch_size: int | None, params: dict[str, str] | None) -> None:
        self.basic = basic_sweeper.BasicSweeper(max_batch_size, params)  # looked up late: Hydra loads that module twice

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.composer, self.master = Composer(hydra_context.config_loader), config
        shared: Any = self.composer
        context = HydraContext(config_loader=shared, callbacks=hydra_context.callbacks)
        self.basic.validate_batch_is_legal = self.validate  # type: ignore[method-assign]
        self.basic.setup(hydra_context=context, task_function=task_function, config=config)

    def sweep(self, arguments: list[str]) -> Any:
        refuse_too_many([*(f"{key}={value}" for key, value in self.basic.params.items()), *arguments])
        return self.basic.sweep(arguments)

    def validate(self, batch: Sequence[Sequence[str]]) -> None:
        """Compose one job per combination of group choices. Raises Hydra's error for one that cannot be composed, and
        UserError for a fault of all jobs, and for what cannot differ among them.
        """
        for knob in ("threads", "devices"):  # of the process, which has one number of each
            said = {word: None for words in batch for word in words if word.startswith(f"{knob}=")}
            if len(said) > 1:
                raise UserError(
                    f"{', '.join(said)}: {knob} cannot be swept over, XLA reads it once in a process; give one"
                )
        parser, seen = OverridesParser.create(), set()
        for words in batch:
            kind = tuple(
                override.key_or_group if self.composer.is_plain(override) else str(override.input_line)
                for override in parser.parse_overrides(list(words))
            )
            if kind not in seen:
                seen.add(kind)
                self.composer.load_sweep_config(self.master, words)
        verb = str(self.master.hydra.job.config_name)
        if any(Path(self.master.hydra.sweep.dir).glob("*/summary.json")):  # it goes on: each job says what it is
            return
        refuse_common(verb, lambda: (self.composer.load_sweep_config(self.master, words) for words in batch))
