"""The words of `diffsde study`: the texts of its stages, from the command line or from a file of configs/experiment/study."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from diffsde.cli import spelling
from diffsde.cli.job import config_folder
from diffsde.errors import UserError, suggestion

STAGES = ("train", "sample", "evaluate")
MACHINE = ("threads", "devices", "cache", "cache_dir")  # of the one process, and so of every stage
OWN = (*STAGES, "experiment", "out", "resume", *MACHINE)


class Asked(NamedTuple):
    """A study as asked for: for each of STAGES its sweeps, each a list of words; where it is written, and what it is held against.

    out: a folder, or None: one of its own under outputs/study. machine: words of every stage. plugins: of plugins=. published:
    of the file, or {}.
    """

    stages: dict[str, list[list[str]]]
    out: Path | None = None
    resume: bool = True
    machine: tuple[str, ...] = ()
    plugins: tuple[str, ...] = ()
    published: dict[str, Any] = {}
    experiment: str = ""

    def kept(self) -> dict[str, Any]:
        """What makes it this study and no other, as study.json has it."""
        return {"stages": self.stages, "plugins": list(self.plugins), "experiment": self.experiment}


def asked(words: Sequence[str]) -> Asked:
    """The study that the words of the command line ask for. Raises UserError."""
    rest, plugins = spelling.without_plugins(words)
    own: dict[str, str] = {}
    texts: dict[str, list[str]] = {stage: [] for stage in STAGES}
    for word in rest:
        key, equals, value = word.partition("=")
        if not equals or key not in OWN:
            raise UserError(f"'{word}' is not a word of a study; quote what belongs to a stage: train='{word} ...'")
        if key in texts:
            texts[key].append(value)
        elif key in own:
            raise UserError(f"{key}= is said twice, {own[key]} and {value}")
        else:
            own[key] = value
    if own.get("resume", "true") not in ("true", "false"):
        raise UserError(f"resume is '{own['resume']}'; it must be true or false")
    stages = {stage: [split(stage, text) for text in texts[stage]] for stage in STAGES}
    content: dict[str, Any] = {}
    if "experiment" in own:
        content = read_experiment(own["experiment"])
        stages = {stage: changed(stage, content[stage], stages[stage]) for stage in STAGES}
    if not (stages["train"] or stages["sample"] or stages["evaluate"]):
        raise UserError("study: nothing is asked for; say train='path=ot,vp seed=0,1' sample='sampler=heun steps=5,10'")
    return Asked(
        stages,
        Path(own["out"]).expanduser() if own.get("out") else None,
        own.get("resume") != "false",
        tuple(f"{key}={own[key]}" for key in MACHINE if key in own),
        tuple(plugins),
        content.get("published") or {},
        own.get("experiment", ""),
    )


def split(stage: str, text: str) -> list[str]:
    """The words of a stage's text, split as a shell would. Raises UserError for words that are no sweep's."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise UserError(f"{stage}: {str(error).lower()} in '{text}'") from None
    for word in words:
        if not word.partition("=")[1]:
            option = f"; a study sweeps without {word}" if word in ("-m", "--multirun") else "; words are key=value"
            raise UserError(f"{stage}: '{word}' has no place in a study's text{option}")
        if word.partition("=")[0] in ("plugins", "resume", *MACHINE):
            raise UserError(f"{stage}: {word} is of the whole study; say it beside {stage}=, not in it")
        if word.startswith(("hydra.", "hydra/")):
            raise UserError(f"{stage}: {word} has no place in a study's text; out= says where a study is written")
    return words


def changed(stage: str, texts: Iterable[str], given: list[list[str]]) -> list[list[str]]:
    """The sweeps of an experiment's stage, with the words given beside experiment= in place of those with the same key."""
    found = [split(stage, text) for text in texts]
    if not given:
        return found
    words = [word for text in given for word in text]
    keys = {word.partition("=")[0] for word in words}
    return [[*(word for word in each if word.partition("=")[0] not in keys), *words] for each in found or [[]]]


def names() -> list[str]:
    """The names of the experiments that are studies."""
    return sorted(path.stem for path in (config_folder() / "experiment" / "study").glob("*.yaml"))


def read_experiment(name: str) -> dict[str, Any]:
    """The content of configs/experiment/study/NAME.yaml: of each stage a list of texts, and `published`. Raises UserError."""
    import yaml

    if name not in names():
        raise UserError(f"experiment: '{name}' is not a study{suggestion(name, names(), most=100)}")
    content = yaml.safe_load((config_folder() / "experiment" / "study" / f"{name}.yaml").read_text())
    texts = {stage: content.get(stage) or [] for stage in STAGES}
    return content | {stage: [text] if isinstance(text, str) else text for stage, text in texts.items()}
