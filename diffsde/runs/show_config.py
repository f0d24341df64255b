"""The choices of a picture of `diffsde show`: its knobs, which of them each picture takes, and what run= stands for."""

from __future__ import annotations

import dataclasses
from typing import Any

from diffsde import plugins
from diffsde.build import choose, read_parts
from diffsde.datasets import Dataset
from diffsde.errors import UserError, suggestion
from diffsde.knobs import WHAT
from diffsde.paths import PATHS, GaussianPath, check_ends
from diffsde.runs import folder
from diffsde.runs.machine import Machine
from diffsde.runs.outputs import Outputs
from diffsde.runs.sample_config import with_precision
from diffsde.samplers import Diffusion, Sampler

FIELD = "run dataset source path label checkpoint ema"  # the knobs that say of which field or law
GRID = "coordinates window resolution"
TAKES = {
    "density": f"{FIELD} {GRID} times of style scale steps",
    "field": f"{FIELD} {GRID} times of quantity",
    "conditional": f"{FIELD} {GRID} times quantity z n seed steps sigma diffusion",
    "path": "run path paths diffusion sigma",
    "data": "run dataset n seed coordinates window",
    "noising": "run dataset source path times z n seed coordinates window",
    "marginals": f"{FIELD} times coordinates window n seed sampler diffusion sigma steps samples",
}
MOST_TIMES = 8  # panels of a row


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShowConfig:
    """The knobs of configs/show.yaml, which documents each. run: the folders of run=; () for the exact field."""

    what: str | None
    run: str | tuple[str, ...] | None
    dataset: Dataset | None = None
    path: GaussianPath | None = None
    source: Dataset | None = None
    paths: tuple[GaussianPath, ...] | None
    diffusion: Diffusion | None = None
    sampler: Sampler | None = None
    times: tuple[float, ...] | None
    quantity: str | None
    of: str | None
    style: str | None
    scale: str | None
    z: tuple[float | tuple[float, ...], ...] | None
    n: int | None
    seed: int | None
    label: int | None
    coordinates: tuple[str, ...] | None
    window: tuple[float, ...] | None
    resolution: int | None
    steps: int | None
    sigma: float | None
    samples: str | None
    checkpoint: str | None
    ema: float | None
    format: str
    machine: Machine

    @property
    def runs(self) -> tuple[str, ...]:
        """The run folders; () where the picture is of what is exact."""
        if self.run is None or self.run == "oracle":
            return ()
        return (self.run,) if isinstance(self.run, str) else self.run

    def check(self) -> None:
        """Raise ValueError for knobs that the picture does not take, or that contradict one another."""
        if self.what is None:
            raise ValueError(f"what: say which picture, what=one of {', '.join(WHAT)}")
        takes = {"what", "format", "machine", *TAKES[self.what].split()}
        for field in dataclasses.fields(self):
            if field.name not in takes and getattr(self, field.name) is not None:
                owners = [what for what in WHAT if field.name in TAKES[what].split()]
                raise ValueError(f"{field.name} is not of what={self.what}; it is of what={' or '.join(owners)}")
        self._check_lists()
        self._check_source()

    def _check_lists(self) -> None:
        for name, most in (("coordinates", (2,)), ("window", (2, 4))):
            sizes: tuple[int, ...] = most
            value = getattr(self, name)
            if name == "coordinates" and self.what == "data":
                sizes = (2, 3, 4)
            if value is not None and len(value) not in sizes:
                raise ValueError(f"{name} is {list(value)}; it must have {' or '.join(map(str, sizes))} entries")
        if self.coordinates is not None and len(set(self.coordinates)) < len(self.coordinates):
            raise ValueError(f"coordinates is {list(self.coordinates)}; they must differ")
        if self.window is not None and any(a >= b for a, b in zip(self.window[::2], self.window[1::2], strict=True)):
            raise ValueError(f"window is {list(self.window)}; it must be [left,right,bottom,top], each pair increasing")
        if self.times is not None:
            if not 1 <= len(self.times) <= MOST_TIMES:
                raise ValueError(f"times has {len(self.times)} entries; give 1 to {MOST_TIMES}, e.g. times=[0,0.5,0.9]")
            if any(a >= b for a, b in zip(self.times, self.times[1:], strict=False)):
                raise ValueError(f"times is {list(self.times)}; they must increase, from noise (0) to data (1)")
        for name in ("z", "paths"):
            if getattr(self, name) == ():
                raise ValueError(f"{name} is empty; leave it out")

    def _check_source(self) -> None:
        given = " and ".join(f"{name}=" for name in ("dataset", "source", "path") if getattr(self, name) is not None)
        if self.runs and given:
            raise ValueError(f"{given} cannot be combined with run=, which has its own")
        if self.runs and "oracle" in self.runs:
            raise ValueError("run: oracle stands alone; of=both or of=difference draws runs beside the exact field")
        if not self.runs and (self.checkpoint is not None or self.ema is not None):
            raise ValueError("checkpoint= and ema= are of a trained run; name it with run=")
        if self.samples is not None:
            self._check_samples(given)
        elif self.what == "path":
            if self.paths is not None and (self.path is not None or self.runs):
                raise ValueError("paths= are several paths; leave out path= and run=")
        elif not self.runs:
            self._check_exact()

    def _check_exact(self) -> None:
        if self.dataset is None:
            raise ValueError(f"what={self.what} needs a dataset=, e.g. dataset=gmm, or run=<a run folder or latest>")
        if self.path is None and self.what not in ("density", "data"):
            raise ValueError(f"what={self.what} needs a path= along which the data are reached, e.g. path=ot")
        if self.path is not None and (self.source is not None or self.path.has_gamma):
            check_ends(self.path)
        if self.source is not None and self.path is None:
            raise ValueError("source: say along which path, e.g. path=ot")
        if self.path is None and self.times is not None:
            raise ValueError("times: the law of a dataset alone has none; say along which path=, e.g. path=ot")
        if self.of not in (None, "exact"):
            raise ValueError(f"of={self.of} needs a trained run; name it with run=")

    def _check_samples(self, given: str) -> None:
        for name in ("run", "sampler", "diffusion", "sigma", "steps", "n", "seed", "label"):
            if getattr(self, name) is not None or given:
                word = given or f"{name}="
                raise ValueError(f"samples= are drawn as they are; they cannot be combined with {word}")


PARTS = (Machine, Outputs, ShowConfig)


def resolve_run(config: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The config with the run that is meant; and the same with that run's precision, to configure the process.

    latest, also in a list, becomes the folder it means now. Without run= it is the newest run wherever no dataset= or path=
    says what the picture is of, but for data and paths, of which there is much to see without one.
    """
    said = [config.get(key) for key in ("run", "dataset", "path", "samples")]
    if said == [None] * 4 and config.get("what") in ("density", "field", "conditional", "noising", "marginals"):
        config = config | {"run": "latest"}
    run = config.get("run")
    if run == "latest":
        config = config | {"run": str(folder.latest())}
    elif isinstance(run, list):
        config = config | {"run": [str(folder.latest()) if each == "latest" else each for each in run]}
    first = config["run"][0] if isinstance(config.get("run"), list) and config["run"] else config.get("run")
    if config.get("samples") is not None:
        theirs = folder.read_config(_path(config["samples"]), "samples", "sample")
        first = theirs["run"]
    if first is None or first == "oracle":
        return config, config
    return config, config | {"precision": with_precision(config | {"run": first})["precision"]}


def _path(word: Any) -> Any:
    from pathlib import Path

    return Path(str(word))


def show_choices(config: dict[str, Any]) -> ShowConfig:
    """The choices of a picture. Raises UserError."""
    paths = config.get("paths")
    if isinstance(paths, str | dict):
        paths = [paths]
    if paths is not None:
        config = config | {"paths": [_named(each) for each in paths]}
    _, _, chosen = read_parts(config, *PARTS)
    assert isinstance(chosen, ShowConfig)
    if chosen.what == "path" and not chosen.runs and chosen.path is None and chosen.paths is None:
        usual = tuple(PATHS[name]() for name in ("ot", "trig", "cosine", "vp"))
        chosen = dataclasses.replace(chosen, paths=usual)
    return chosen


def _named(path: Any) -> Any:
    """A path's config, of its name alone too. Raises UserError for another word."""
    if not isinstance(path, str):
        return path
    known = PATHS | plugins.parts("path")
    if path not in known:
        raise UserError(f"paths: '{path}' is not a path{suggestion(path, known)}")
    choose(GaussianPath, {"name": path}, "paths")  # type: ignore[type-abstract]
    return {"name": path}
