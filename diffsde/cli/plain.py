"""Plain verbs: verbs about runs that are there, with words of their own and no config of Hydra's; one table of them."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import NamedTuple

from diffsde.errors import UserError, suggestion


class Plain(NamedTuple):
    """A plain verb: what --help, completion and refusals need to know of it, so that its module is imported only to run it.

    module: with a function main(words), called with the words after the verb; what it can mend is a UserError. words: the
    words it takes, for the line of usage. knobs: {key: meaning} of its own words key=value. options: {--option: meaning}.
    selects: whether its other words choose runs (runs/records.py: select), so that filters key=value may stand among them.
    """

    module: str
    purpose: str
    words: str
    knobs: dict[str, str] = {}
    options: dict[str, str] = {}
    examples: Sequence[tuple[str, str]] = ()
    selects: bool = True


PLAIN: dict[str, Plain] = {
    "rerun": Plain(
        "diffsde.cli.rerun",
        "repeat a run from its folder, and say whether the bits match",
        "RUN",
        {"out": "the folder of the repetition; a new one under outputs/", "plugins": "[...], where the run needs them"},
        {},
        [
            ("diffsde rerun latest", "the newest finished run again: the same bits, or what differs and why it may"),
            ("diffsde rerun outputs/train/2026-05-04/10-00-00-000001", "a run by its folder; or by its id or name"),
        ],
    ),
    "runs": Plain(
        "diffsde.verbs.runs",
        "what has been run, newest first",
        "[RUN or FILTER ...]",
        {"n": "how many are listed: 30, a number, or all"},
        {"--json": "as JSON, with every word of each; all of them, unless n= says how many"},
        [
            ("diffsde runs", "the newest runs: ids, choices, figures"),
            ("diffsde runs path=ot objective=noise", "those with these choices, samples from such runs too"),
            ("diffsde runs state=failed", "those that failed, and why"),
        ],
    ),
    "compare": Plain(
        "diffsde.verbs.compare",
        "a table and pictures of many runs, their seeds folded",
        "RUN or FILTER ...",
        {
            "by": "the choices that make the rows, by=path,sampler: over others a row is averaged; all that differ",
            "where": "the choices that a job must have, where='path=ot steps=50,100'",
            "x": "what figures are drawn against: a choice, nfe, seconds or another figure",
            "y": "the figure that is drawn: the first that ranks",
            "out": "the folder for tables and pictures: a new one under outputs/compare",
            "tables": "csv (a row a job), md, tex (with booktabs), parquet (needs the extra); [csv,md,tex]",
            "pictures": "whether pictures are drawn: true",
            "report": "whether report.html is written too, one page with all of it: false",
        },
        {},
        [
            ("diffsde compare outputs/sample/2026-11-26/*-sweep", "a sweep's table, what leads, and pictures"),
            ("diffsde compare verb=evaluate dataset=moons x=nfe", "all evaluations on the moons, drawn against NFE"),
        ],
    ),
    "study": Plain(
        "diffsde.cli.study",
        "train a sweep, sample and judge every trained run, compare",
        "[train='WORDS'] [sample='WORDS'] [evaluate='metrics=[...] WORDS'], or experiment=NAME",
        {
            "train": "words of a training sweep, in one text; a second train= is another sweep",
            "sample": "words of a sampling sweep of every run that was trained; with run=oracle and without train= of exact fields",
            "evaluate": "metrics=[...] and more words; samples are then drawn by it, by the words of sample",
            "experiment": "a file of configs/experiment/study; words of a stage beside it replace the file's of the same key",
            "out": "the study's folder; otherwise one under outputs/study",
            "resume": "true: go on with an unfinished study of the same words; false: begin another",
            "threads": "CPU threads of every stage; so devices=, cache=, cache_dir=",
            "devices": "number of devices of every stage",
            "cache": "keep compiled programs for the next run",
            "cache_dir": "folder of that cache",
            "plugins": "[my_parts.py]: parts of your own, for every stage",
        },
        {},
        [
            (
                "diffsde study train='path=ot,vp' sample='steps=5,10'",
                "two runs, each sampled twice; stopped, it goes on",
            ),
            ("diffsde study train='path=ot,vp' evaluate='metrics=[w2,likelihood]'", "and judged"),
            ("diffsde study experiment=icfm_and_fm", "published figures beside those measured here"),
        ],
        selects=False,
    ),
    "report": Plain(
        "diffsde.verbs.report",
        "one HTML page of runs: table, chart, a player of the cloud, pictures, configs",
        "[RUN or FILTER ...]",
        {
            "out": "the folder that report.html is written into; else the run's, the sweep's, or a new one in outputs/report/"
        },
        examples=[
            ("diffsde report", "the newest run"),
            ("diffsde report outputs/sample/2026-01-01/10-00-00-sweep", "the jobs of a sweep"),
            ("diffsde report path=ot,vp sampler=heun out=page", "all runs with these choices"),
        ],
    ),
}

RUNS_HELP = (
    "runs are chosen by a folder (of a job, of a sweep, or any folder above them), an id or its beginning, a name, a glob of",
    "folders or names, latest, or filters key=value of which all must hold: choices and knobs (path=ot steps=50,100 lr=1e-3),",
    "those of the run that was sampled from (path=vp; run.seed=0 where both have the key), state=whole|stopped|failed|running,",
    "verb=, name=, tag=, date=2026-11-*, sweep=. A value may be a comma list, of which one must hold, or a glob.",
)


def run_plain(verb: str, words: list[str]) -> None:
    """Run a plain verb, or print its help. Raises UserError for an option that it does not have."""
    about = PLAIN[verb]
    if "-h" in words or "--help" in words:
        print(plain_help(verb))
        return
    for word in words:
        if word.startswith("-") and word.partition("=")[0] not in about.options:
            known = [*about.options, "--help"]
            raise UserError(f"'{word}' is not an option{suggestion(word, known)}; see diffsde {verb} --help")
        key, equals, _ = word.partition("=")
        if equals and not about.selects and key not in about.knobs:
            raise UserError(f"{key} is not known{suggestion(key, about.knobs)}; see diffsde {verb} --help")
    importlib.import_module(about.module).main(words)


def plain_help(verb: str) -> str:
    """The text of diffsde VERB --help of a plain verb."""
    about = PLAIN[verb]
    lines = [f"diffsde {verb}: {about.purpose}", "", f"usage: diffsde {verb} {about.words}"]
    rows = [*((f"{key}=", text) for key, text in about.knobs.items()), *about.options.items()]
    if rows:
        lines += ["", "its own words:", *(f"  {name:<14} {text}" for name, text in rows)]
    if about.selects:
        lines += ["", *RUNS_HELP]
    return "\n".join([*lines, "", "examples:", *(f"  {command:<66} {what}" for command, what in about.examples)])
