"""argv -> verb -> Hydra -> plain dict; no other file imports hydra or omegaconf, and this one only once a verb runs."""

from __future__ import annotations

import importlib
import math
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from diffsde import __version__, completion, help_text, knobs, memory, spelling, terminal
from diffsde.errors import Stopped, UserError, suggestion
from diffsde.runs import clock

HYDRA_FLAGS = (
    "--cfg --config-dir --config-name --config-path --experimental-rerun --hydra-help --info --multirun --package"
    " --resolve --run --shell-completion --version"
).split()
MULTIRUN = {"-m", "--multirun"}
# Each has a function of that name.
VERBS = {verb: f"diffsde.runs.{verb}" for verb in ("train", "sample", "evaluate", "explain")}

# What a run that goes on under its own config may still be given, besides the knobs of the machine:
FREE = ("checkpoint_every", "keep", "pictures")

prepared: dict[str, Any] = {}  # by a job's folder: its outcome, where a launcher did its work before its turn came

_started: list[str] = []  # the jobs begun by this command line: what fails before any has begun is its composition
_refused: list[str] = []  # what the user has to mend in them


def main(argv: list[str] | None = None) -> int:
    """Run one command line and return its exit status: 0, 2 for what the user can mend, 130 when interrupted, 141 where
    all went well but for a reader of what was printed, who left.
    """
    clock.begin()
    with terminal.guarded() as outputs:
        status = _main(list(sys.argv[1:] if argv is None else argv))
    left = any(isinstance(output.error, BrokenPipeError) for output in outputs)
    return terminal.BROKEN_PIPE if left and status == 0 else status


def _main(words: list[str]) -> int:
    if line := os.environ.get("COMP_LINE"):  # the shell asks, at the press of the tab key
        print("\n".join(completion.candidates(config_folder(), VERBS, HYDRA_FLAGS, line)))
        return 0
    if not words or words[0] in ("-h", "--help", "help"):
        print(help_text.overview(VERBS))
        return 0
    if words[0] in ("-V", "--version"):
        print(f"diffsde {__version__}")
        return 0
    verb, rest = words[0], words[1:]
    try:
        if verb == "-sc":
            print(completion.script(rest[0] if rest else ""))
            return 0
        if verb not in VERBS:
            raise UserError(f"'{verb}' is not a verb{suggestion(verb, VERBS)}; see diffsde --help")
        if "-h" in rest or "--help" in rest:
            print(help_text.verb_help(config_folder(), verb))
            return 0
        for word in rest:
            _check_word(verb, word)
        if MULTIRUN & set(rest) and any(word.startswith("hydra.run.dir=") for word in rest):
            raise UserError(
                "hydra.run.dir is of one run; a sweep writes into hydra.sweep.dir=DIR, a folder for each job"
            )
        _run_hydra(verb, rest)
        return 0
    except UserError as error:
        print(f"diffsde: {error}", file=sys.stderr)
        return 2
    except Stopped as stop:
        print(f"diffsde: stopped {stop}", file=sys.stderr)
        return 128 + stop.number
    except KeyboardInterrupt:
        print("diffsde: interrupted", file=sys.stderr)
        return 130


def _check_word(verb: str, word: str) -> None:
    """Refuse what Hydra would answer with a page of usage or a traceback."""
    key, _, value = word.partition("=")
    if word.startswith("--") and key not in HYDRA_FLAGS:
        raise UserError(f"'{word}' is not an option{suggestion(word, HYDRA_FLAGS)}; see diffsde {verb} --help")
    if value == "null" and key in help_text.groups(config_folder(), verb):
        names = ", ".join(help_text.choices(config_folder(), key))
        raise UserError(f"{word}: a group needs one of its choices: {names}")


def config_folder() -> Path:
    """configs/ inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parent
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def _run_hydra(verb: str, words: list[str]) -> None:
    """Compose the config and run the verb; whatever Hydra finds wrong becomes a UserError of one line."""
    memory.hold()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors reach us as exceptions, not as its own report and exit status 1
    import hydra
    import yaml

    _add_resolver()
    sweeping = bool(MULTIRUN & set(words))
    words = spelling.hydra_words(config_folder(), verb, words, sweeping)
    if sweeping:
        from diffsde import sweeps

        sweeps.register()
        if not any(word.startswith(("hydra.sweep.dir=", "hydra/sweeper=", "resume=false")) for word in words):
            given = [_qualified(verb, word) for word in words if not word.startswith(("-", "hydra"))]
            if found := sweeps.unfinished(verb, given):
                print(f"going on with the sweep in {found} (resume=false begins afresh)", flush=True)
                words = [*words, f"hydra.sweep.dir={found}"]
    spelled = [_qualified(verb, word) for word in words if word not in MULTIRUN]
    if sweeping:  # argparse wants it before or after the words, not among them
        spelled = ["--multirun", *spelled]
    before = sys.argv
    sys.argv = ["diffsde", *spelled]
    try:
        hydra.main(version_base="1.3", config_path=str(config_folder()), config_name=verb)(run_job)()
        if sweeping:
            _refused.extend(sweeps.finish())
        if _refused:
            raise UserError("\ndiffsde: ".join(_refused))
    except yaml.YAMLError as error:
        raise UserError(f"a config file is not valid YAML: {' '.join(str(error).split())}") from error
    except SystemExit as stop:  # argparse: an unknown --option, already explained by it
        if isinstance(stop.code, str):
            raise UserError(stop.code) from None
        if stop.code not in (0, None):
            raise UserError(f"see diffsde {verb} --help") from None
    except Exception as error:
        if _started:
            raise
        raise UserError(help_text.composition_error(str(error), config_folder(), verb)) from error
    finally:
        if sweeping:
            sweeps.leave(begun=bool(_started))
        sys.argv = before
        _started.clear()
        _refused.clear()


def composed(verb: str, words: list[str]) -> dict[str, Any]:
    """The config of a verb with these words, as a plain dict: what the verb's function takes."""
    import hydra

    _add_resolver()
    with hydra.initialize_config_dir(str(config_folder()), version_base="1.3"):
        spelled = spelling.hydra_words(config_folder(), verb, words, sweeping=False)
        return plain(hydra.compose(verb, [_qualified(verb, word) for word in spelled]))


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


def _add_resolver() -> None:
    """${default:value,otherwise} in the configs; in the processes of a parallel launcher too."""
    from omegaconf import OmegaConf

    if not OmegaConf.has_resolver("default"):
        OmegaConf.register_new_resolver("default", lambda value, otherwise: otherwise if value is None else value)


def _qualified(verb: str, word: str) -> str:
    """Two groups are said short: diffusion= lies inside the sampler, experiment= has its own choices for each verb."""
    if word.startswith("experiment="):
        return word.replace("experiment", f"experiment/{verb}@_global_", 1)
    return f"diffusion@sampler.{word}" if verb != "train" and word.startswith("diffusion=") else word


@terminal.guarded()  # in a parallel launcher's process, which begins here
def run_job(config: Any) -> Any:
    """One job of Hydra's: the composed config as a plain dict, through the verb, into the job's folder."""
    memory.hold()  # of a parallel launcher's process
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode
    from omegaconf.errors import OmegaConfBaseException

    _add_resolver()
    about = HydraConfig.get()
    verb, out = str(about.job.config_name), Path(about.runtime.output_dir)
    in_sweep = about.mode == RunMode.MULTIRUN
    if _started:  # this job's wait begins where that for the one before ended
        clock.begin()
    _started.append(str(out))
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
        outcome = prepared.pop(str(out), None)
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
            _refused.append(str(error))
        return math.inf  # the worst of a figure that a sweeper minimises, as all of METRICS are
    finally:
        if (out / "config.json").exists():
            _keep_composition(out / ".hydra", config, about)
        else:
            remove_empty(out)


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
                f"run= goes on with a run under its own config, for more steps= if need be; it takes no {others[0]}"
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
    from diffsde.runs import folder

    folder.write_json(out / "error.json", {"error": why, "overrides": words})


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
            from diffsde.runs.folder import is_held

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
