"""The run folder: claimed for a config, written atomically, never overwritten; and the search for earlier runs."""

from __future__ import annotations

import math
import os
import shlex
import stat
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from diffsde import named_files, nested, plugins, system_errors
from diffsde.errors import Unreadable, UserError
from diffsde.knobs import is_number
from diffsde.runs import formats, processes, progress, provenance, shapes
from diffsde.runs.files import parsed, parsed_of_user, read_json, write_json
from diffsde.runs.locks import is_held
from diffsde.runs.record import OUTPUTS, folders

if TYPE_CHECKING:
    from diffsde.datasets.scaling import Scaling

# The keys of a figure in summary.json that other commands compute with.
NUMBERS = ("value", "error", "exact", "true", "true_error", "real", "real_error", "floor")

# Knobs that say how and where a run is computed, not what it computes: a run may be resumed with other values.
MACHINE = ("cache", "cache_dir", "threads", "coordinator", "processes", "rank")
LINKS = (
    "DIFFSDE_LINKS"  # the variable with the folders that links of a run's folder may lead to, a scratch disk for one
)
LABELS = ("name", "tag")  # what a run is called
APART = {
    "train": (*MACHINE, *LABELS, "resume", "checkpoint_every", "keep", "logger", "pictures"),
    "simulate": (*MACHINE, *LABELS, "resume", "pictures"),
    "sample": (
        *MACHINE,
        *LABELS,
        "resume",
        "pictures",
        "coordinates",
        "plots",
    ),  # whose `keep` is of a trajectory's samples
}
WHAT = {  # what is in a folder of each verb
    "train": "a training run",
    "sample": "a sample",
    "evaluate": "an evaluation",
    "simulate": "a simulation",
    "show": "a picture of show",
}
APART_USUALLY = (*MACHINE, *LABELS, "resume")  # of the other verbs


def claim(folder: Path, verb: str, config: dict[str, Any]) -> bool:
    """Create the folder for a config, or check that it holds a run of this config; True: a finished one.

    A training run named by run= may have fewer steps than the config: then it is not finished.
    Raises UserError where the folder holds another run.
    """
    check_links(folder)  # of a folder without a run too: it may have come with links in it
    if (folder / "config.json").exists():
        parsed_of_user(folder / "config.json", formats.fault)
        there = _read(folder)
        theirs, mine = there.get("config"), config
        if verb == "train" and config["run"] is not None and isinstance(theirs, dict):
            mine = config | {"run": None, "steps": theirs.get("steps")}
        if there.get("verb") != verb or not same(verb, theirs, mine) or not config.get("resume", True):
            raise UserError(f"'{folder}' already holds another run; nothing is overwritten, give another folder")
        if why := formats.not_resumable(there):
            raise UserError(f"'{folder}' cannot be resumed: {why}{folder}")
        summary = read_json(folder / "summary.json", shape=shapes.SUMMARY)
        if verb == "train" and summary is not None:
            done = bool(summary.get("steps") == _number(config["steps"]))
            if done:
                _warn_of_none(folder)
            return done
        return (folder / "summary.json").exists()
    if processes.is_main_process():
        with system_errors.naming(folder):
            folder.mkdir(parents=True, exist_ok=True)
    return False


def _warn_of_none(run: Path) -> None:
    """Warn of a finished training run whose checkpoints are gone: no command can take it."""
    from diffsde import checkpoints  # here: it imports orbax

    if not checkpoints.steps(run / "checkpoints"):
        progress.warn(checkpoints.none_there(run))


def check_links(folder: Path) -> None:
    """Raise UserError for a link that leads out of a folder of a run, a sweep or a study, which another may have made: what is written would go there.

    Links may lead to the folders of $DIFFSDE_LINKS. Whose a link is says nothing: unpacked from a stranger's archive it is the user's.
    """
    named = os.environ.get(LINKS, "").split(os.pathsep)
    allowed = [
        Path(os.path.realpath(folder)),
        *(Path(os.path.realpath(os.path.expanduser(each))) for each in named if each),
    ]
    for entry in sorted(folder.iterdir()) if folder.is_dir() else ():
        if entry.is_symlink() and not any(
            (end := Path(os.path.realpath(entry))).is_relative_to(place) for place in allowed
        ):
            raise UserError(
                f"'{entry}' leads out of its folder, to '{end}', and nothing is written through a link that may be a stranger's;"
                f" put what it leads to in its place, or if it is your own, say {LINKS}={shlex.quote(str(end))} before the command"
            )


def is_of_before(folder: Path) -> bool:
    """Whether the folder holds a training run of an earlier version, whose losses had other weights."""
    return formats.weighted_otherwise(_read(folder, neighbour=True))


def same(verb: str, one: Any, other: Any) -> bool:
    """Whether two configs of a verb describe the same run, up to how and where it is computed (APART)."""
    return isinstance(one, dict) and isinstance(other, dict) and _essence(verb, one) == _essence(verb, other)


def _number(word: Any) -> Any:
    """A number from a config, in which `1e4` is a string; other words unchanged."""
    return float(word) if isinstance(word, int | float) or is_number(str(word)) else word


def _essence(verb: str, config: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in APART.get(verb, APART_USUALLY)}


def unfinished(verb: str, config: dict[str, Any]) -> Path | None:
    """The newest folder outputs/<verb>/<day>/<time> with this config that is unfinished and not being written; or None."""

    def fits(folder: Path) -> bool:
        if any(os.path.exists(folder / end) for end in ("summary.json", "error.json")):
            return False
        content = _read(folder, neighbour=True)
        if content.get("verb") != verb or formats.weighted_otherwise(content):
            return False
        return same(verb, content.get("config"), config) and not is_held(folder)

    return newest((OUTPUTS / verb).glob("*/*/config.json"), fits)


def newest(files: Iterable[Path], fits: Callable[[Path], bool] = lambda folder: True) -> Path | None:
    """The folder of the file that was modified last, of those that fit, which are asked newest first; None where there is none.

    Paths that are no regular files are skipped.
    """

    def written(path: Path) -> int:
        try:
            about = path.stat()
        except OSError:
            return -1
        return about.st_mtime_ns if stat.S_ISREG(about.st_mode) else -1

    dated = sorted(((written(path), path) for path in files), reverse=True)
    return next((path.parent for date, path in dated if fits(path.parent) and date >= 0), None)


def _read(folder: Path, neighbour: bool = False) -> dict[str, Any]:
    """The content of config.json in today's format and words; {} where it is absent or of a format that is not read.

    neighbour: as in `read_json`, and warn of a newer format.
    """
    content = read_json(folder / "config.json", neighbour, formats.fault)
    if neighbour and (why := formats.too_new(content)):
        progress.warn_once(f"'{folder}' is left out: {why}")
    return formats.in_format_of_now(content) if formats.is_readable(content) else {}


def write_config(
    folder: Path,
    verb: str,
    config: dict[str, Any],
    scaling: Scaling | None = None,
    net: dict[str, Any] | None = None,
    made_of: dict[str, Any] | None = None,
) -> None:
    """Write config.json, with the backend and the provenance; for a training run also the data's scaling, the net (net=auto
    resolved), and what else it is made of that its config does not hold.
    """
    import jax

    content = {"format": formats.FORMAT, "verb": verb, "backend": jax.default_backend(), "config": config}
    content["directory"] = str(Path.cwd())  # file names in the config are relative to it
    content["provenance"] = provenance.of_job(folder, config)
    if own := plugins.needed(config):
        content["plugins"] = own
    if scaling is not None:
        content["scaling"] = {name: each.ravel().tolist() for name, each in scaling._asdict().items()}
    if net is not None:
        content["net"] = net
    write_json(folder / "config.json", content | ({"made_of": made_of} if made_of else {}))


def replace_config(folder: Path, config: dict[str, Any]) -> None:
    """Replace the config in config.json; everything else in the file stays."""
    write_json(folder / "config.json", _read(folder) | {"config": config})


def read_scaling(folder: Path) -> Scaling | None:
    """The scaling between the data's own units and the model's, its arrays flat; None where the run has none. Raises UserError."""
    kept = _read(folder).get("scaling")
    if kept is None:
        return None
    from diffsde.datasets.scaling import Scaling

    try:
        found = Scaling(*(np.array(kept[name], np.float64) for name in Scaling._fields))
    except (TypeError, KeyError, ValueError):
        found = Scaling(np.array(np.nan), np.array(np.nan))
    if found.mean.ndim != 1 or found.mean.shape != found.std.shape or not np.isfinite(found).all():
        raise UserError(f"run: 'scaling' in '{folder / 'config.json'}' must be two lists of numbers, mean and std")
    return found


def read_made_of(folder: Path) -> dict[str, Any]:
    """What a run is made of that its config does not hold; {} of older runs."""
    return _read(folder).get("made_of", {})


def read_directory(folder: Path) -> Path:
    """The working directory in which a run was begun."""
    return Path(str(_read(folder).get("directory", ".")))


def read_net(folder: Path) -> Any:
    """The config of the net that a run was begun with."""
    return _read(folder).get("net")


def read_config(folder: Path, knob: str = "run", verb: str = "train") -> dict[str, Any]:
    """The config in a folder of the verb. Raises UserError for any other folder; knob: the knob that named it."""
    if not folder.is_dir():
        what, others = "run" if verb == "train" else verb, ", latest or oracle" if knob == "run" else ""
        raise UserError(f"{knob}: there is no folder '{folder}'; give a {what} folder{others}")
    if not (folder / "config.json").exists():
        raise UserError(f"{knob}: '{folder}' is not a run folder (it has no config.json)")
    if why := formats.too_new(parsed_of_user(folder / "config.json", formats.fault, knob)):
        raise UserError(f"{knob}: '{folder}' cannot be read: {why}")
    content = _read(folder)
    if content.get("verb") in WHAT and content["verb"] != verb and isinstance(content.get("config"), dict):
        raise UserError(f"{knob}: '{folder}' is {WHAT[content['verb']]}, {_instead(folder, knob, content, verb)}")
    if content.get("verb") != verb or not isinstance(content.get("config"), dict):
        raise UserError(f"{knob}: '{folder / 'config.json'}' is not the config of a {verb} run of this version")
    plugins.check_needed(content.get("plugins"), knob, str(folder))
    named_files.remember(content["config"], by_user=False)
    return content["config"]


def _instead(folder: Path, knob: str, content: dict[str, Any], verb: str) -> str:
    """What a knob of a folder of `verb` takes in the place of this folder of another verb."""
    run = content["config"].get("run")
    if verb == "train" and isinstance(run, str) and run != "oracle":
        return f"of run={shlex.quote(run)}; {knob}= takes {WHAT[verb]}, such as that one"
    if verb == "sample" and content["verb"] == "train":
        return f"and {knob}= takes {WHAT[verb]}; take run={shlex.quote(str(folder))}"
    return f"and {knob}= takes {WHAT[verb]}"


def has_checksums(folder: Path) -> bool:
    """Whether the checkpoints of a run must have checksums."""
    return formats.has_checksums(_read(folder))


def check_resumable(folder: Path) -> None:
    """Raise UserError where training cannot go on in a folder that an earlier version wrote."""
    if why := formats.not_resumable(_read(folder)):
        raise UserError(f"run: '{folder}' cannot be resumed: {why}{folder}")


def read_summary(folder: Path) -> dict[str, Any]:
    """The content of summary.json, null figures as NaN. Raises UserError where it is not the summary of a finished job."""
    try:
        content = parsed(folder / "summary.json", shapes.SUMMARY)
    except Unreadable as error:
        raise UserError(
            f"'{folder / 'summary.json'}' cannot be read: {error}; remove it, and the run is finished again"
        ) from None
    if not _has_figures(content):
        raise UserError(f"'{folder / 'summary.json'}' has no figures; remove it, and the run is finished again")
    return content | {key: _numbers(content[key]) for key in ("metric", "metrics", "loss") if key in content}


def _has_figures(content: Any) -> bool:
    """Whether a summary has well-formed figures: the loss and the metric of a training run, or the metrics of samples."""
    if not isinstance(content, dict):
        return False
    if "metric" in content:
        metric = content["metric"]
        return (
            isinstance(metric, dict)
            and isinstance(metric.get("name"), str)
            and all(isinstance(figure, dict) and _is_figure(figure) for figure in (metric, content.get("loss")))
        )
    figures = content.get("metrics")
    return isinstance(figures, dict) and all(  # there are none where the data could not be read
        isinstance(figure, dict) and _is_figure(figure) for figure in figures.values()
    )


def _is_figure(figure: dict[str, Any]) -> bool:
    known = [value for key, value in figure.items() if key in NUMBERS]
    return "value" in figure and all(value is None or isinstance(value, int | float) for value in known)


def _numbers(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _numbers(item) for key, item in value.items()}
    return math.nan if value is None else value


def latest_begun() -> Path:
    """The folder of the training run under outputs/train that was begun last. Raises UserError where there is none."""
    if found := newest(OUTPUTS.glob("train/*/*/config.json"), lambda place: bool(_read(place, neighbour=True))):
        return found
    raise UserError(f"run=latest: no run under '{OUTPUTS / 'train'}'; give run=<folder>")


def latest() -> Path:
    """The folder of the field under outputs/ whose training finished last, of a sweep or a study too. Raises UserError."""
    done = (place / "summary.json" for place, there in folders(OUTPUTS) if there >= {"summary.json", "checkpoints"})
    if found := newest(done, lambda place: is_field(place, neighbour=True)):
        return found
    begun = (
        place / "config.json"
        for place, there in folders(OUTPUTS)
        if there >= {"config.json", "checkpoints"} and "summary.json" not in there
    )
    if stopped := newest(begun, lambda place: _read(place, neighbour=True).get("verb") == "train"):
        raise UserError(
            f"run=latest: no training under '{OUTPUTS}' has finished; '{stopped}' was stopped: go on with it by"
            f" `diffsde train run={stopped}`, or take it as it is, run={stopped}"
        )
    raise UserError(
        f"run=latest: no trained run under '{OUTPUTS}'; run `diffsde train` first, or give run=<folder> or run=oracle"
    )


def with_latest(config: dict[str, Any]) -> dict[str, Any]:
    """A training config with the folder that `latest` names in each knob that begins from another run. Raises UserError."""
    for knob in ("init", "coupling.run", "teacher"):
        if nested.get(config, knob) == "latest":
            config = nested.put(config, knob, str(latest()))
    return config


def is_trained(folder: Path, neighbour: bool = False) -> bool:
    """Whether the folder holds a finished training run."""
    if not (os.path.isfile(folder / "summary.json") and os.path.isdir(folder / "checkpoints")):
        return False
    content = _read(folder, neighbour)
    return content.get("verb") == "train" and isinstance(content.get("config"), dict)


def is_field(folder: Path, neighbour: bool = False) -> bool:
    """Whether the folder holds a finished training run of a field, not of a classifier."""
    if not is_trained(folder, neighbour):
        return False
    objective = _read(folder)["config"].get("objective")
    return isinstance(objective, dict) and objective.get("name") != "classifier"


def is_drawn(folder: Path) -> bool:
    """Whether the folder holds finished samples."""
    files = (os.path.isfile(folder / name) for name in ("summary.json", "samples.npz"))
    return all(files) and _read(folder).get("verb") == "sample"
