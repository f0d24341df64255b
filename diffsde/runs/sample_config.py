"""The choices of drawing samples: dataclasses of knobs, and the resolution of run=latest."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffsde.build import as_config, choose, name_of, read_parts, table
from diffsde.datasets import Dataset
from diffsde.inverse import Measurement, Posterior
from diffsde.knobs import as_words
from diffsde.paths import GaussianPath, check_ends
from diffsde.runs import folder, progress
from diffsde.runs.machine import Machine
from diffsde.runs.outputs import Outputs
from diffsde.samplers import Grid, Sampler
from diffsde.samplers.best import Best
from diffsde.samplers.diffusions import Constant
from diffsde.samplers.edm import EDMHeun
from diffsde.samplers.grids import ListGrid, OptimisedGrid
from diffsde.stability import takes_sigma

MOST_TUNED = 64  # steps whose times grid=optimised tunes: the work grows with their square


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stepping:
    """The sampler, the grid, and the knobs of configs/knobs/steps.yaml, which documents each."""

    sampler: Sampler
    grid: Grid
    steps: int | None
    sigma: float | None
    last: str

    def check(self) -> None:
        """Raise ValueError where sigma= or last= is nothing that the sampler takes, and for a search that cannot be made."""
        takes_sigma(self.sampler, self.sigma)
        if self.sampler.jumps and self.last == "denoise":
            raise ValueError(
                f"last=denoise takes E[z|x] in the place of the last jump, which sampler={name_of(self.sampler)} is for;"
                " leave out last="
            )
        if isinstance(self.sampler, Best):
            check_candidates(self.sampler, self.grid)
        if isinstance(self.grid, OptimisedGrid):
            check_tunable(self.sampler, self.steps)


def check_candidates(sampler: Best, grid: Grid) -> None:
    """Raise ValueError for candidates of sampler=best that cannot be tried, and for a grid that fixes the number of steps."""
    able = [name for name, kind in table(Sampler).items() if is_noise_free(kind()) and kind is not Best]
    for name in sampler.candidates:
        if name not in able:
            raise ValueError(
                f"sampler.candidates: '{name}' cannot be tried without noise; choose some of {', '.join(able)}"
            )
    if not sampler.candidates:
        raise ValueError(f"sampler.candidates is empty; choose some of {', '.join(able)}")
    if isinstance(grid, ListGrid):
        raise ValueError(
            "grid=list fixes the number of steps, which sampler=best is free in; name a sampler, or another grid"
        )


def check_tunable(sampler: Sampler, steps: int | None) -> None:
    """Raise ValueError where grid=optimised has no times to tune."""
    if not isinstance(sampler, Best) and not is_noise_free(sampler):
        raise ValueError(
            f"grid=optimised tunes the times of an ODE's solver, and not of sampler={name_of(sampler)}; take sampler=best, or"
            " another grid"
        )
    if steps is None or steps > MOST_TUNED:
        said = "needs their number" if steps is None else f"is of few steps, and steps is {steps}"
        raise ValueError(f"grid=optimised tunes the times of so many steps, and {said}; give steps= up to {MOST_TUNED}")


def is_noise_free(sampler: Sampler) -> bool:
    """Whether a sampler solves the ODE, by steps on a grid."""
    quiet = not sampler.stochastic or (isinstance(sampler, EDMHeun) and not sampler.churn)
    return quiet and not sampler.adaptive and not sampler.jumps


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampling(Stepping):
    """The knobs of configs/knobs/sampling.yaml, which documents each: the field to sample from, and how."""

    run: str
    checkpoint: str
    ema: float | None
    n: int
    seed: int
    labels: str | tuple[int, ...] | None
    guidance: float | None
    guidance_interval: tuple[float, ...]
    guide: str | None
    guide_checkpoint: str
    dataset: Dataset | None = None
    path: GaussianPath | None = None
    source: Dataset | None = None
    direction: str = "forward"  # the meaning of an older config.json without this knob
    machine: Machine

    @property
    def guided(self) -> bool:
        """Whether samples follow another law than the data's; a field guided by itself with weight 1 is the field itself."""
        return self.guidance is not None and (self.guidance != 1 or self.guide is not None)

    def check(self) -> None:
        super().check()
        self._check_guidance()
        if self.run == "oracle":
            if self.checkpoint != "last" or self.ema is not None:
                raise ValueError("run=oracle has no checkpoint and no ema; they belong to a trained run")
            if self.path is None or self.dataset is None:
                raise ValueError("run=oracle needs a dataset= and a path=, e.g. dataset=gmm path=ot")
            if not self.dataset.has_exact_field:
                raise ValueError(
                    "run=oracle knows the exact field of mixtures (dataset=gmm, gaussian, 8gaussians, mixture) and of finite data"
                    " (dataset=array, image_folder, digits, mnist, fashion_mnist)"
                )
            self._check_two_laws()
        elif self.path is not None or self.dataset is not None or self.source is not None:
            raise ValueError("dataset=, source= and path= belong to the trained run; give them with run=oracle only")

    def _check_two_laws(self) -> None:
        assert self.path is not None and self.dataset is not None
        if self.source is None and not self.path.has_gamma:
            return
        check_ends(self.path)
        for name, law in (("source", self.source), ("dataset", self.dataset)):
            if law is not None and law.law() is None:
                raise ValueError(
                    f"{name}={name_of(law)}: the exact field between two laws is known of mixtures only (gmm, gaussian,"
                    " 8gaussians, mixture); train on others"
                )

    def _check_guidance(self) -> None:
        if isinstance(self.labels, str) and self.labels != "all":
            raise ValueError(f"labels is '{self.labels}'; it must be all, or a list, e.g. labels=[0,1,2]")
        if self.labels == ():
            raise ValueError("labels is empty; give a list, e.g. labels=[0,1,2], or all")
        interval = self.guidance_interval
        if len(interval) != 2 or not interval[0] <= interval[1]:
            raise ValueError(f"guidance_interval is {list(interval)}; it must be [t0,t1] with 0 <= t0 <= t1 <= 1")
        if self.guidance is None:
            if self.guide is not None:
                raise ValueError("guide says what guides; say how much with guidance, e.g. guidance=2")
            if interval != (0, 1):
                raise ValueError("guidance_interval says when to guide; say how much with guidance, e.g. guidance=2")
        if self.guide is None:
            if self.guide_checkpoint != "last":
                raise ValueError("guide_checkpoint is of the run that guides; name it with guide=<run folder>")
            if self.guidance is not None and self.labels is None:
                raise ValueError(
                    "guidance leans towards labels; say which, e.g. labels=[0,1,2] or labels=all (or guide=<run folder>)"
                )


@dataclasses.dataclass(frozen=True, kw_only=True)
class SampleConfig(Sampling):
    """The knobs of configs/sample.yaml, which documents each; the defaults here are for samples that are only measured."""

    coupled: bool = False
    truth: str | None = None
    n_measurements: int | None = None
    save_every: int | None = None
    keep: int | None = None
    pictures: str | tuple[str, ...] = "none"
    coordinates: str | tuple[str, ...] | None = None
    plots: bool | None = None
    measurement: Measurement | None = None
    posterior: Posterior | None = None

    def check(self) -> None:
        super().check()
        self._check_pictures()
        if self.coupled and not self.sampler.coupled:
            able = ", ".join(name for name, kind in table(Sampler).items() if kind.coupled)
            raise ValueError(f"coupled needs a sampler whose noise is that of one Brownian path: {able}")
        if self.keep is not None and self.save_every is None:
            raise ValueError("keep says of how many samples to save a trajectory; say how often with save_every")
        if isinstance(self.coordinates, str) and self.coordinates != "principal":
            raise ValueError(
                f"coordinates is '{self.coordinates}'; it must be a list, e.g. coordinates=[0,3], or principal"
            )
        if self.measurement is not None and (isinstance(self.sampler, Best) or isinstance(self.grid, OptimisedGrid)):
            raise ValueError(
                "sampler=best and grid=optimised are for a field without a measurement; with measurement= name a sampler and a grid"
            )
        for name in ("posterior", "truth", "n_measurements"):
            if self.measurement is None and getattr(self, name) is not None:
                raise ValueError(f"{name} is of an inverse problem; say what is measured with measurement=")

    @property
    def drawn(self) -> tuple[str, ...]:
        """The words of pictures=: default, all, or names of pictures; () for none."""
        return () if self.plots is False else as_words(self.pictures)

    def _check_pictures(self) -> None:
        words = as_words(self.pictures)
        if words not in ((), ("default",)) if self.plots is False else self.plots and not words:
            named = f"[{','.join(words)}]" if words else "none"
            raise ValueError(f"plots={str(self.plots).lower()} and pictures={named} disagree; leave out plots=")


def sample_choices(config: dict[str, Any]) -> SampleConfig:
    """The choices of a sample config. Raises UserError."""
    _, _, chosen = read_parts(config, Machine, Outputs, SampleConfig)
    assert isinstance(chosen, SampleConfig)
    return chosen


def only_judged(sampling: Sampling) -> SampleConfig:
    """The choices of samples drawn by `sampling` to be measured only, without a folder of their own."""
    return SampleConfig(**{field.name: getattr(sampling, field.name) for field in dataclasses.fields(sampling)})


def resolve_latest(config: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The config with run=latest resolved; and the same with the run's precision, to configure the process."""
    config = with_reference_sigma(with_run(config))
    return config, with_precision(config)


def with_run(config: dict[str, Any]) -> dict[str, Any]:
    """The config with run=latest replaced by the folder it means now, so that resuming later uses the same run."""
    return config | {"run": str(folder.latest())} if config.get("run") == "latest" else config


def with_reference_sigma(config: dict[str, Any]) -> dict[str, Any]:
    """The config with the sigma of the Brownian motion whose bridge the path is, where sigma= and the diffusion say nothing."""
    diffusion = config["sampler"].get("diffusion")
    if config.get("sigma") is not None or not diffusion or diffusion != as_config(Constant()):
        return config
    path = config.get("path")
    if config.get("run", "oracle") != "oracle":
        path = folder.read_config(Path(str(config["run"]))).get("path")
    if path is None:
        return config
    reference = choose(GaussianPath, path, "path").reference_sigma  # type: ignore[type-abstract]
    if reference is None:
        return config
    progress.say(f"sigma: {reference:g}, that of the Brownian motion whose bridge the path is (sigma= sets another)")
    sampler = config["sampler"] | {"diffusion": diffusion | {"sigma": reference}}
    return config | {"sigma": reference, "sampler": sampler}


def with_precision(config: dict[str, Any]) -> dict[str, Any]:
    """The config with the run's precision where it has none: float64 must be enabled before any array is read."""
    if config.get("precision") is not None or config.get("run") == "oracle":
        return config
    return config | {"precision": folder.read_config(Path(str(config.get("run")))).get("precision")}


def describe(config: dict[str, Any], found: Mapping[str, Any] | None = None) -> str:
    """A config's sampler, guidance and diffusion as text, e.g. sampler=em diffusion=constant sigma=0.5. found: what a search found."""
    sampler = config["sampler"]
    diffusion = sampler.get("diffusion")
    words = f"sampler={sampler['name']}"
    if found and found["sampler"]["name"] != sampler["name"]:
        words += f" ({found['sampler']['name']})"
    if config["guidance"] is not None:
        words += f" guidance={config['guidance']:g}"
    return words + (f" diffusion={diffusion['name']} sigma={diffusion['sigma']:g}" if diffusion else "")
