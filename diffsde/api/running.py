"""A verb run from Python: the same door as the command line's, the same work, and its findings in memory."""

from __future__ import annotations

import importlib
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from diffsde.api.findings import Findings
from diffsde.cli.from_python import config_of, in_yaml
from diffsde.cli.job import VERBS
from diffsde.runs import clock, files, folder, jobs, machine, progress, provenance, shapes
from diffsde.runs.drawn_arrays import read_archive
from diffsde.runs.leaving import remove_empty, will_make
from diffsde.runs.records import text_of


@contextmanager
def session(verbose: bool, words: Mapping[str, Any] | None = None) -> Iterator[None]:
    """A call in Python: JAX's settings are given back at its end; only warnings and bars are printed unless `verbose`.

    words: those of the call, for the record of where a job comes from.
    """
    clock.begin()
    typed = [f"{key}={text_of(in_yaml(key, value))}" for key, value in (words or {}).items()]
    command = shlex.join(["python", *filter(None, sys.argv[:1])])
    with machine.settings_given_back(), progress.quiet(not verbose), provenance.given(command, {None: typed}):
        yield


def configured(verb: str, words: Mapping[str, Any]) -> dict[str, Any]:
    """The config of a verb with the words. Raises UserError, also for what JAX can no longer be told in this process."""
    config = config_of(verb, words)
    machine.refuse_late(config)
    return config


def run_verb(
    verb: str,
    words: Mapping[str, Any],
    where: str | Path | None = None,
    verbose: bool = False,
    adjust: Callable[[Any], object] = lambda job: None,
) -> Findings:
    """Run a verb with the words. where: the folder that is written as the command writes it; None: no file is left.

    adjust: called with the job before its work begins. Raises UserError.
    """
    with session(verbose, words):
        if where is None and "pictures" not in words and "plots" not in words:
            words = drawing_nothing(verb, words)
        config = configured(verb, words)
        door: jobs.Verb = importlib.import_module(VERBS[verb]).VERB
        if where is not None:
            return written(door, config, Path(where), adjust)
        with tempfile.TemporaryDirectory(prefix="diffsde-") as scratch:
            done = jobs.single(door, config, Path(scratch), False, adjust)
            assert done is not None
            return found(verb, done, None)


def written(door: jobs.Verb, config: dict[str, Any], where: Path, adjust: Callable[[Any], object]) -> Findings:
    """The findings of a job that is written into a folder; those that are there already where it is finished."""
    will_make(where)
    try:
        done = jobs.single(door, config, where, True, adjust)
    finally:
        if where.is_dir() and not (where / "config.json").exists():
            remove_empty(where)
    return found(door.name, done, where) if done is not None else read(door.name, where)


def drawing_nothing(verb: str, words: Mapping[str, Any]) -> Mapping[str, Any]:
    """The words with pictures="none", of a verb that draws some beside its result."""
    from diffsde.cli import help_text
    from diffsde.cli.job import config_folder

    draws = any(name == "pictures" for name, *_ in help_text.knobs(config_folder(), verb))
    return {**words, "pictures": "none"} if draws else words


def found(verb: str, done: jobs.Done, where: Path | None) -> Findings:
    """The findings of a job that is done."""
    result, report = done.result, done.report
    arrays, drawn, drawings = result.arrays | report.arrays, {}, {}
    if where is None and result.draw:
        drawn = {path.name: path.read_bytes() for path in result.draw()}
    if make := getattr(result, "figures", None):
        drawings = make()
    return Findings(
        verb, report.title, report.summary, arrays, done.config, where, drawn, drawings, tuple(report.lines)
    )


def read(verb: str, where: Path) -> Findings:
    """The findings in a folder of a finished job. Raises UserError."""
    arrays = {}
    for path in sorted(where.glob("*.npz")):
        arrays[path.stem] = read_archive(path)
    config = files.parsed_of_user(where / "config.json", shapes.CONFIG)["config"]
    return Findings(verb, f"already finished: {where}", folder.read_summary(where), arrays, config, where)
