"""The choices of simulating a process: the dataclass of knobs, and what of a sampler has no place here."""

from __future__ import annotations

import dataclasses
from typing import Any

from diffsde.build import name_of, read_parts
from diffsde.datasets import Dataset
from diffsde.errors import UserError
from diffsde.knobs import as_number, as_words
from diffsde.processes import Process
from diffsde.processes.process import Numbers
from diffsde.runs.machine import Machine
from diffsde.runs.outputs import Outputs
from diffsde.samplers import SAMPLERS, Sampler
from diffsde.samplers.sde import StochasticHeun

DEFAULT_SIGMA = 0.5  # of the diffusion that a generative SDE's sampler is composed with


@dataclasses.dataclass(frozen=True, kw_only=True)
class SimulateConfig:
    """The knobs of configs/simulate.yaml, which documents each."""

    process: Process
    sampler: Sampler
    source: Dataset | None = None
    sigma: Numbers | None
    theta: Numbers | None
    mu: Numbers | None
    x0: float | tuple[float | tuple[float, ...], ...] | None
    t_end: float
    steps: int | None
    n: int
    seed: int
    save_every: int | None
    keep: int | None
    pictures: str | tuple[str, ...]
    machine: Machine

    def check(self) -> None:
        """Raise ValueError for a sampler that cannot step the process, and for knobs without effect."""
        sampler = name_of(self.sampler)
        if self.sampler.needs_field:
            able = ", ".join(name for name, kind in SAMPLERS.items() if not kind.needs_field)
            raise ValueError(f"sampler={sampler} needs a field on a path, with alpha and beta; a process takes {able}")
        if not self.sampler.stochastic and not self.process.noiseless:
            raise ValueError(
                f"sampler={sampler} solves an ODE, but this process has noise; take sampler=em or stochastic_heun, or sigma=0"
            )
        if isinstance(self.sampler, StochasticHeun) and not self.process.additive:
            raise ValueError(
                "sampler=stochastic_heun converges to Stratonovich's solution where the diffusion depends on x, as here;"
                " take sampler=em, which converges to Ito's"
            )
        if self.x0 is not None and self.source is not None:
            raise ValueError("x0 and source both say where the paths start; give one of them")
        if self.keep is not None and self.save_every is None:
            raise ValueError("keep says of how many paths to save a trajectory; say how often with save_every")
        as_words(self.pictures)

    @property
    def drawn(self) -> tuple[str, ...]:
        """The words of pictures=: default, all, or names of pictures; () for none."""
        return as_words(self.pictures)


def without_generative(config: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The config, twice, without the diffusion of a generative SDE that an SDE sampler is composed with: a process has its own.

    Raises UserError where the user has set it.
    """
    sampler = config["sampler"]
    given = sampler.get("diffusion") if isinstance(sampler, dict) else None
    if given is None:
        return config, config
    usual = given.get("name") == "constant" and (
        config["sigma"] is not None or as_number(given["sigma"]) == DEFAULT_SIGMA
    )
    if not usual:
        raise UserError(
            "diffusion= is of the generative SDE of a field; a process has its own noise: sigma=, or process.diffusion="
            " of process=expression"
        )
    config = config | {"sampler": {key: value for key, value in sampler.items() if key != "diffusion"}}
    return config, config


def simulate_choices(config: dict[str, Any]) -> SimulateConfig:
    """The choices of a simulate config. Raises UserError."""
    *_, chosen = read_parts(config, Machine, Outputs, SimulateConfig)
    assert isinstance(chosen, SimulateConfig)
    return chosen


def in_config_words(config: dict[str, Any]) -> str:
    """A choice of a config as it is typed: its name and its numbers, those of a dataset in it too."""
    words = [str(config["name"])]
    for key, value in config.items():
        if isinstance(value, dict):
            words.append(f"{key}={in_config_words(value)}")
        elif key != "name" and value is not None and not isinstance(value, bool):
            words.append(f"{key}={typed(value)}")
    return " ".join(words)


def typed(value: Any) -> str:
    """A number of a config, a list or an expression as it is typed."""
    if isinstance(value, list | tuple):
        return f"[{','.join(map(typed, value))}]"
    return f"{value:g}" if isinstance(value, int | float) else str(value)
