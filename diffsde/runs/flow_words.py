"""Knobs that are of fields alone: typed for a discrete flow they would do nothing, and are refused before jax is imported."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from diffsde.errors import UserError
from diffsde.runs.record import key_typed

NETS = ("realnvp", "spline")

# Each knob with its value where nobody has set it; of a choice, its name.
TRAIN: dict[str, Any] = {
    **{"path": "ot", "time": "log_normal", "coupling": "independent", "source": None},
    **{"precondition": True, "posterior_points": None, "teacher": None},
}
SAMPLE: dict[str, Any] = {
    **{"sampler": "heun", "grid": "auto", "steps": None, "sigma": None, "last": "auto", "direction": "forward"},
    **{"guidance": None, "guidance_interval": [0, 1], "guide": None, "guide_checkpoint": "last"},
    **{"measurement": None, "posterior": None, "truth": None, "n_measurements": None},
    **{"coupled": False, "save_every": None, "keep": None},
}
DRAWING = {
    key: SAMPLE[key] for key in SAMPLE if key not in ("coupled", "save_every", "keep", "truth", "n_measurements")
}
EVALUATE: dict[str, Any] = {
    **DRAWING,
    **{"solver": "rk4", "solver_steps": None, "solver_grid": "quadratic", "tolerance": None, "probe": "auto"},
}
EXPLAIN: dict[str, Any] = {
    **{"path": "ot", "time": "log_normal", "source": None, "precondition": True},
    **{"sampler": "heun", "grid": "auto", "steps": None, "sigma": None, "last": "auto"},
}
OF_FIELDS: dict[str, dict[str, Any]] = {"explain": EXPLAIN, "train": TRAIN, "sample": SAMPLE, "evaluate": EVALUATE}


def refuse(verb: str, config: dict[str, Any], typed: Iterable[str]) -> None:
    """Raise UserError for a knob of fields that was typed, or is not as usual, where the config's network is a discrete flow.

    typed: the keys of the words of a command line, or of a Python call.
    """
    if verb == "show":
        return refuse_shown(config, typed)
    if verb not in OF_FIELDS or (net := net_of(verb, config)) not in NETS:
        return
    usual = OF_FIELDS[verb]
    for key in map(key_typed, typed):
        inside = key.partition(".")[2] if key.startswith("objective.") else ""
        if inside or key.partition(".")[0] in (*usual, "diffusion"):
            raise UserError(refusal(key, net))
    for key, value in usual.items():
        if key in config and differs(config[key], value):
            raise UserError(refusal(key, net))


def refuse_shown(config: dict[str, Any], typed: Iterable[str]) -> None:
    """Raise UserError for a picture of `show` that a discrete flow does not have, or a knob that would not change its density."""
    runs = config.get("run")
    nets = [net_of("show", {"run": run}) for run in (runs if isinstance(runs, list) else [runs])]
    net = next((net for net in nets if net in NETS), None)
    if net is None:
        return
    if (what := config.get("what")) not in (None, "density"):
        raise UserError(
            f"what={what}: the run is a discrete flow (net={net}), with neither time nor velocity; what=density draws its density"
        )
    for key in typed:
        if key in ("times", "steps"):
            raise UserError(refusal(key, net))


def net_of(verb: str, config: dict[str, Any]) -> str:
    """The word of the network that a config is of, '' where it is of none, or the run is not there."""
    from diffsde.runs import folder  # here: it imports numpy

    if verb in ("train", "explain"):
        return str((config.get("net") or {}).get("name"))
    try:
        if samples := config.get("samples"):
            config = folder.read_config(Path(str(samples)), "samples", "sample")
        run = config.get("run")
        if run in ("oracle", None):
            return ""
        place = folder.latest() if run == "latest" else Path(str(run))
        return str((folder.read_net(place) or {}).get("name"))
    except UserError:  # which the verb itself will say
        return ""


def refusal(key: str, net: str) -> str:
    """The line that refuses a knob."""
    return f"{key}: net={net} makes a discrete flow, with neither time nor velocity, which {key}= would not change; leave it out"


def differs(value: Any, usual: Any) -> bool:
    """Whether a knob's value is another than the usual one; value: plain, or the name of a choice."""
    if isinstance(value, dict):
        value = value.get("name")
    return list(value) != usual if isinstance(value, list | tuple) else value != usual
