"""One job of Hydra: from its composed config through the verb into its folder; shared by single commands and sweeps."""

from __future__ import annotations

import dataclasses
import importlib
import math
import os
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from diffsde import atomic_files, knobs, memory, named_files, plugins, signals, system_errors, terminal
from diffsde.cli import help_text
from diffsde.errors import UserError
from diffsde.runs import clock, flow_words, leaving, provenance

# Each module has a function with the verb's name.
VERBS = {verb: f"diffsde.verbs.{verb}" for verb in ("train", "sample", "evaluate", "simulate", "explain", "show")}

# Verbs whose sweeps have a picture of all jobs, and of each job only where it is asked for:
DRAWN = ("sample", "simulate")

# Knobs that may be set when a run is resumed by run= under its own config, in addition to the machine's:
FREE = ("checkpoint_every", "keep", "pictures")

# The folder that Hydra is about to make for a job that has not begun, for the command to remove where it never does.
about_to: ContextVar[list[Path]] = ContextVar("about_to")

ENDS = ("summary.json", "error.json")  # of which a job that has ended has one


@dataclasses.dataclass
class Jobs:
    """The state of the jobs of one command line.

    begun: the folders of jobs that have begun; an error before any has begun is one of composition. refused: error messages
    for the user. process: the process of the command; a parallel launcher runs jobs in other processes. plugins: those of
    plugins=, for such processes. ended: called with a job's folder once it has ended, in the command's process.
    command: as it was typed, for such processes too. compares: whether a sweep of the jobs compares them at its end.
    """

    begun: list[str] = dataclasses.field(default_factory=list)
    refused: list[str] = dataclasses.field(default_factory=list)
    process: int = dataclasses.field(default_factory=os.getpid)
    plugins: list[str] = dataclasses.field(default_factory=list)
    ended: Callable[[Path], None] | None = None
    command: str = dataclasses.field(default_factory=provenance.command)
    compares: bool = True


@terminal.guarded()  # here too, as a parallel launcher's process begins here
def run_job(config: Any, jobs: Jobs, outcome: float | UserError | None = None) -> Any:
    """Run one job of Hydra: pass the composed config, as a plain dict, and the job's folder to the verb's function.

    outcome: the job's outcome, if a launcher has already computed it together with other jobs.
    """
    memory.tune_malloc()  # for a parallel launcher's process
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    add_resolver()
    about = HydraConfig.get()
    verb, out = str(about.job.config_name), Path(about.runtime.output_dir)
    in_sweep = about.mode == RunMode.MULTIRUN
    if jobs.begun or jobs.process != os.getpid():  # this job's time begins when the last job ended
        clock.begin()
    jobs.begun.append(str(out))
    words = words_of(about.overrides.task)
    place = [out]
    with signals.leaving(leaving.of_job(verb, place, in_sweep, "resume=false" not in words)):
        try:
            signals.check()  # of the job before
            if in_sweep:
                print(terminal.printable(f"job {about.job.num}: {' '.join(words)}"), flush=True)
            outcome = _outcome(config, about, jobs, place, outcome)
            return math.inf if isinstance(outcome, float) and math.isnan(outcome) else outcome
        except UserError as error:  # recorded, not raised: Hydra would print its own report, of the first failure only
            signals.again()
            terminal.traced(error)
            if in_sweep and not about.callbacks:  # a sweep of explain, which writes nothing
                jobs.refused.append(f"job {about.job.num} ({' '.join(words)}): {error}")
            elif in_sweep:  # recorded on the disk, since this may not be the process that began the sweep
                if (out / "summary.json").exists():  # it holds another run: raised, so that Hydra ends the sweep
                    raise
                _keep_refusal(out, str(error), words, jobs)
            else:
                jobs.refused.append(str(error))
            return math.inf  # the worst score for a sweeper, which minimises
        finally:
            if (out / "config.json").exists() and verb != "explain":  # whose folder is the one that the command is in
                _keep_composition(out / ".hydra", config, about, jobs)
            else:
                leaving.remove_empty(out)
            if jobs.ended and jobs.process == os.getpid() and any((out / end).exists() for end in ENDS):
                jobs.ended(out)


def _outcome(config: Any, about: Any, jobs: Jobs, place: list[Path], known: float | UserError | None) -> Any:
    """Check a job's config and run it, unless its outcome is known. place: its folder, to which one is added where another holds
    the run that goes on. Raises UserError.
    """
    from hydra.types import RunMode
    from omegaconf.errors import OmegaConfBaseException

    verb, in_sweep = str(about.job.config_name), about.mode == RunMode.MULTIRUN
    words = words_of(about.overrides.task)
    try:
        chosen = job_config(config, verb, in_sweep, words)
    except OmegaConfBaseException as error:
        raise UserError(help_text.composition_error(str(error), config_folder(), verb, words)) from error
    plugins.load(jobs.plugins)
    knobs.check(chosen)  # before the verb's module, which imports everything slow
    flow_words.refuse(verb, chosen, [word.partition("=")[0] for word in words])
    if not (place[0] / "summary.json").exists():  # a finished run is said to be so, whatever became of its files
        named_files.check(chosen)
    if verb == "train":
        if in_sweep and chosen["run"] is not None:
            raise UserError("run= goes on with one run, and has no place in a sweep; leave out -m")
        if not in_sweep:
            chosen, there = _going_on(chosen, words, place[0], words_of(about.overrides.hydra))
            place.append(there)
    if verb == "evaluate" and chosen["samples"] is not None:
        importlib.import_module(VERBS[verb]).refuse_words(words)
    if isinstance(known, UserError):
        raise known
    if known is not None:
        return known
    with (
        system_errors.as_user_errors(*knobs.texts(chosen), *place),
        plugins.as_user_errors(),
        provenance.given(jobs.command, {place[-1]: words}),
    ):
        act: Callable[[Any, Path], Any] = getattr(importlib.import_module(VERBS[verb]), verb)
        return act(chosen, place[-1])


def words_of(overrides: Any) -> list[str]:
    """A job's words as they were typed: a variable ${...} in one stays itself."""
    from omegaconf import OmegaConf

    words = OmegaConf.to_container(overrides, resolve=False)
    assert isinstance(words, list)
    return [str(word) for word in words]


def job_config(config: Any, verb: str, in_sweep: bool, words: Sequence[str]) -> dict[str, Any]:
    """The plain config of a job; in a sweep of DRAWN verbs, without pictures unless the words set pictures= or plots=."""
    chosen = plain(config)
    if in_sweep and draws_nothing_unasked(verb, words):
        chosen["pictures"] = "none"
    return chosen


def draws_nothing_unasked(verb: str, words: Sequence[str]) -> bool:
    """Whether the jobs of a sweep draw no pictures: those of DRAWN verbs without pictures= or plots= among the words."""
    return verb in DRAWN and not any(word.startswith(("pictures=", "plots=")) for word in words)


def plain(config: Any) -> dict[str, Any]:
    """A composed config without Hydra's own part, as a plain dict; of source=normal, which is empty, nothing is left."""
    from omegaconf import OmegaConf

    own = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    found = OmegaConf.to_container(own, resolve=True)
    assert isinstance(found, dict)
    said = _said_sigma(own, found) | _gentle_rate(own, found)
    kept = {str(key): _given(value) for key, value in (found | said).items() if (key, value) != ("source", {})}
    kept = knobs.home_expanded(kept)
    named_files.remember(kept, by_user=True)
    return kept


def _gentle_rate(config: Any, found: dict[Any, Any]) -> dict[str, Any]:
    """The optimizer with a share of its own learning rate, where the objective asks for that and no word says the rate."""
    from omegaconf import OmegaConf

    share = knobs.RATES.get(str((found.get("objective") or {}).get("name")))
    if share is None or "optimizer" not in found or found.get("lr") is not None:
        return {}
    if not OmegaConf.is_interpolation(config.optimizer, "lr"):
        return {}
    optimizer = found["optimizer"]
    return {"optimizer": optimizer | {"lr": round(optimizer["lr"] * share, 9)}}


def _said_sigma(config: Any, found: dict[Any, Any]) -> dict[str, Any]:
    """sigma, where sampler.diffusion.sigma says it itself: a bridge's own sigma replaces a default alone, not one that is said as much."""
    from omegaconf import OmegaConf

    if found.get("sigma", ...) is not None or not isinstance(
        diffusion := (found.get("sampler") or {}).get("diffusion"), dict
    ):
        return {}
    default = OmegaConf.is_interpolation(config.sampler.diffusion, "sigma")
    return {} if default or diffusion.get("sigma") is None else {"sigma": diffusion["sigma"]}


def _given(value: Any) -> Any:
    """A value without numbers that a plugin leaves to the user, ???, and that the user did not say: `build` asks for them."""
    if not isinstance(value, dict):
        return value
    return {key: _given(each) for key, each in value.items() if not (isinstance(each, str) and each == "???")}


def add_resolver() -> None:
    """Register the resolver ${default:value,otherwise} of the configs; needed in a parallel launcher's processes too."""
    from omegaconf import OmegaConf

    if not OmegaConf.has_resolver("default"):
        OmegaConf.register_new_resolver("default", lambda value, otherwise: otherwise if value is None else value)


def config_folder() -> Path:
    """The folder configs/: inside the installed package, or next to the package in a checkout."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def _choose(config: dict[str, Any]) -> None:
    """Make the choices of a training config, which may try a program of jax. Raises UserError."""
    from diffsde.runs import machine  # here: it imports jax

    machine.configure_process(config)
    with plugins.as_user_errors():
        importlib.import_module(VERBS["train"]).VERB.choose(config)


def _going_on(
    config: dict[str, Any], words: list[str], out: Path, hydra_words: list[str]
) -> tuple[dict[str, Any], Path]:
    """The config and folder of the run to resume: the run of run=, else an unfinished run of this config; else both unchanged.

    Raises UserError for a word that cannot be combined with run=.
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
        try:
            knobs.check(own)
            _choose(own | {key: config[key] for key in folder.MACHINE})
        except UserError as error:  # of numbers and words that are not the user's, but the folder's
            raise UserError(f"run: '{place / 'config.json'}': {error}") from None
        folder.check_resumable(place)
        if "steps" in given:  # `run` set tells the verb that steps may have changed
            own = own | {"steps": config["steps"], "run": str(place)}
        free = {key: config[key] for key in (*folder.MACHINE, *FREE) if key in folder.MACHINE or key in given}
        return own | free | {"resume": True}, place
    if not config["resume"] or any(word.startswith("hydra.run.dir=") for word in hydra_words):
        return config, out
    config = folder.with_latest(config)  # as in the config of the run that is searched
    return config, folder.unfinished("train", config) or out


def _keep_refusal(out: Path, why: str, words: list[str], jobs: Jobs) -> None:
    """Write error.json into the folder of a sweep's job; where that cannot be written either, the error is said at the end."""
    from diffsde.runs import files

    try:
        files.write_json(out / "error.json", {"error": why, "overrides": words})
    except OSError:
        jobs.refused.append(f"job {out.name}: {why}")


def _keep_composition(folder: Path, config: Any, about: Any, jobs: Jobs) -> None:
    """Write .hydra/ as Hydra would, but only for a job that ran, and never over an existing one. What cannot be written is said at the
    end, where nothing else of the job is.
    """
    from omegaconf import OmegaConf

    if folder.exists():
        return
    parts = {"config": config, "hydra": OmegaConf.create({"hydra": about}), "overrides": about.overrides.task}
    try:
        with atomic_files.whole_folder(folder) as partial:
            for name, part in parts.items():
                OmegaConf.save(part, partial / f"{name}.yaml")
    except OSError as error:
        if not jobs.refused and not (folder.parent / "error.json").exists():
            jobs.refused.append(system_errors.line(error) or str(error))
