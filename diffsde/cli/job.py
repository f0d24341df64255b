"""One job of Hydra's: its config as a plain dict, through the verb, into its folder; what the command line and sweeps share."""

from __future__ import annotations

import dataclasses
import importlib
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from diffsde import knobs, memory, terminal
from diffsde.cli import help_text
from diffsde.errors import UserError
from diffsde.runs import clock

# Each has a function of that name.
VERBS = {verb: f"diffsde.verbs.{verb}" for verb in ("train", "sample", "evaluate", "explain")}

# What a run that goes on under its own config may still be given, besides the knobs of the machine:
FREE = ("checkpoint_every", "keep", "pictures")


@dataclasses.dataclass
class Jobs:
    """What has become of the jobs of one command line.

    begun: their folders; what fails before any has begun is the composition of its config. refused: what the user has to
    mend in them. process: the one that the command was given to; a parallel launcher runs jobs in others.
    """

    begun: list[str] = dataclasses.field(default_factory=list)
    refused: list[str] = dataclasses.field(default_factory=list)
    process: int = dataclasses.field(default_factory=os.getpid)


@terminal.guarded()  # in a parallel launcher's process, which begins here
def run_job(config: Any, jobs: Jobs, outcome: float | UserError | None = None) -> Any:
    """One job of Hydra's: the composed config as a plain dict, through the verb, into the job's folder.

    outcome: what came of its work where a launcher did that before its turn came.
    """
    memory.tune_malloc()  # of a parallel launcher's process
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode
    from omegaconf.errors import OmegaConfBaseException

    add_resolver()
    about = HydraConfig.get()
    verb, out = str(about.job.config_name), Path(about.runtime.output_dir)
    in_sweep = about.mode == RunMode.MULTIRUN
    if jobs.begun or jobs.process != os.getpid():  # this job's wait begins where that for the one before ended
        clock.begin()
    jobs.begun.append(str(out))
    words = [str(word) for word in about.overrides.task]
    place = out
    try:
        if in_sweep:
            print(f"job {about.job.num}: {' '.join(words)}", flush=True)
        try:
            chosen = job_config(config, verb, in_sweep, words)
        except OmegaConfBaseException as error:
            raise UserError(help_text.composition_error(str(error), config_folder(), verb)) from error
        knobs.check(chosen)  # before the verb, with which all that is heavy is imported
        if verb == "train":
            if in_sweep and chosen["run"] is not None:
                raise UserError("run= goes on with one run, and has no place in a sweep; leave out -m")
            if not in_sweep:
                chosen, place = _going_on(chosen, words, out, [str(word) for word in about.overrides.hydra])
        if verb == "evaluate" and chosen["samples"] is not None:
            importlib.import_module(VERBS[verb]).refuse_words(words)
        if outcome is None:
            act: Callable[[Any, Path], Any] = getattr(importlib.import_module(VERBS[verb]), verb)
            outcome = act(chosen, place)
        elif isinstance(outcome, UserError):
            raise outcome
        return math.inf if isinstance(outcome, float) and math.isnan(outcome) else outcome
    except UserError as error:  # kept, not raised: Hydra would print a report of its own, and of the first failure only
        if in_sweep:  # on the disk, since this may be another process than the one that began the sweep
            if (out / "summary.json").exists():  # another run lies there: raised, and Hydra ends the sweep with it
                raise
            _keep_refusal(out, str(error), words)
        else:
            jobs.refused.append(str(error))
        return math.inf  # the worst of a figure that a sweeper minimises, as all of METRICS are
    finally:
        if (out / "config.json").exists():
            _keep_composition(out / ".hydra", config, about)
        else:
            remove_empty(out)


def job_config(config: Any, verb: str, in_sweep: bool, words: Sequence[str]) -> dict[str, Any]:
    """The plain config of a job: of a sweep's samples without pictures, of which nobody opens hundreds, unless some are named."""
    chosen = plain(config)
    if in_sweep and draws_nothing_unasked(verb, words):
        chosen["pictures"] = "none"
    return chosen


def draws_nothing_unasked(verb: str, words: Sequence[str]) -> bool:
    """Whether the jobs of a sweep of this verb and these words draw no pictures."""
    return verb == "sample" and not any(word.startswith(("pictures=", "plots=")) for word in words)


def plain(config: Any) -> dict[str, Any]:
    """A composed config, all but Hydra's own part, as a plain dict."""
    from omegaconf import OmegaConf

    own = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    return {str(key): value for key, value in OmegaConf.to_container(own, resolve=True).items()}  # type: ignore[union-attr]


def add_resolver() -> None:
    """${default:value,otherwise} in the configs; in the processes of a parallel launcher too."""
    from omegaconf import OmegaConf

    if not OmegaConf.has_resolver("default"):
        OmegaConf.register_new_resolver("default", lambda value, otherwise: otherwise if value is None else value)


def config_folder() -> Path:
    """configs/ inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def _going_on(
    config: dict[str, Any], words: list[str], out: Path, hydra_words: list[str]
) -> tuple[dict[str, Any], Path]:
    """The config and the folder of the run to go on with: the one that run= names, else an unfinished one of this config;
    else both as they are.
    """
    from diffsde.runs import folder

    if config["run"] is not None:
        given = {word.partition("=")[0].lstrip("+"): word for word in words}
        if others := [word for key, word in given.items() if key not in ("run", "steps", *folder.MACHINE, *FREE)]:
            raise UserError(
                f"run= goes on with a run under its own config, for more steps= if need be; it cannot be combined with {others[0]}"
                " (init= begins another run from its parameters)"
            )
        place = folder.latest_begun() if config["run"] == "latest" else Path(config["run"])
        own = folder.read_config(place)
        if "steps" in given:  # said by run, which else goes on alone
            own = own | {"steps": config["steps"], "run": str(place)}
        free = {key: config[key] for key in (*folder.MACHINE, *FREE) if key in folder.MACHINE or key in given}
        return own | free | {"resume": True}, place
    if not config["resume"] or any(word.startswith("hydra.run.dir=") for word in hydra_words):
        return config, out
    if config["init"] == "latest":  # as the run that is looked for has it
        config = config | {"init": str(folder.latest())}
    return config, folder.unfinished("train", config) or out


def _keep_refusal(out: Path, why: str, words: list[str]) -> None:
    """error.json in the folder of a sweep's job."""
    from diffsde.runs import files

    files.write_json(out / "error.json", {"error": why, "overrides": words})


def _keep_composition(folder: Path, config: Any, about: Any) -> None:
    """.hydra/: what Hydra would write there, but only for a job that ran, and never over another's."""
    from omegaconf import OmegaConf

    if not folder.exists():
        folder.mkdir()
        OmegaConf.save(config, folder / "config.yaml")
        OmegaConf.save(OmegaConf.create({"hydra": about}), folder / "hydra.yaml")
        OmegaConf.save(about.overrides.task, folder / "overrides.yaml")


def remove_empty(folder: Path) -> None:
    """Remove a job's empty folder, and those above it that hold nothing but it, up to outputs/."""
    for place in [folder, *folder.parents]:
        leftover = {entry.name for entry in place.iterdir()} if place.is_dir() else {"?"}
        if leftover - {"multirun.yaml", ".lock"} or place == Path.cwd():
            return
        if ".lock" in leftover:
            from diffsde.runs.locks import is_held

            if is_held(place):
                return
        try:
            for name in leftover:
                (place / name).unlink()
            place.rmdir()
        except OSError:  # a folder of that name, or a place that is not ours to change
            return
        if place.name == "outputs":
            return
