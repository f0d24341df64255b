"""The stages of a study: which sweeps it has, how many jobs each, with every word composed and checked before anything runs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from diffsde import knobs, named_files
from diffsde.cli import choice_texts, help_text, spelling, word_forms
from diffsde.cli.common_fault import check_choice
from diffsde.cli.job import add_resolver, config_folder, plain
from diffsde.cli.main import qualified
from diffsde.cli.study_words import Asked
from diffsde.errors import UserError

# The words of a sample's text that say which field is sampled; the others say how, which is no matter to the field's own figures.
OF_FIELD = ("run", "checkpoint", "ema", "labels", "guidance", "guidance_interval", "guide", "guide_checkpoint")
OF_ORACLE = ("dataset", "path")  # where run=oracle


class Stage(NamedTuple):
    """One sweep of a study: its name, the folder in the study's; verb and words; number of jobs, for each trained run `of_runs`.

    configs: configs of its jobs, enough that each choice and each value is in one.
    """

    name: str
    verb: str
    words: tuple[str, ...]
    jobs: int
    of_runs: bool
    configs: tuple[dict[str, Any], ...]


def planned(asked: Asked) -> list[Stage]:
    """The stages in their order. Raises UserError for a word that any of them would refuse, before jax is imported, then after."""
    sweeps = [("train", words, False) for words in asked.stages["train"]]
    of_runs = bool(sweeps)
    begun = asked.out is not None and (asked.out / "study.json").exists()
    if of_runs:
        refuse_runs(asked)
    drawn = asked.stages["sample"] or [[]]
    if asked.stages["evaluate"]:
        for words in asked.stages["evaluate"]:
            metrics_of(words)
            refuse_twice(words, drawn)
        composed_jobs(
            "evaluate", [*drawn[0], *asked.stages["evaluate"][0], *asked.machine], begun
        )  # refused before jax is there
    elif asked.stages["sample"]:
        sweeps += [("sample", words, of_runs) for words in drawn]
    before = [(verb, words, of, composed_jobs(verb, [*words, *asked.machine], begun)) for verb, words, of in sweeps]
    for verb, _, _, (_, configs) in before:
        check_choices(verb, configs)
    for words, of in evaluations(asked):
        found = composed_jobs("evaluate", [*words, *asked.machine], begun)
        check_choices("evaluate", found[1])
        before.append(("evaluate", words, of and of_runs, found))
    verbs = [verb for verb, *_ in before]
    return [
        Stage(
            verb if verbs.count(verb) == 1 else f"{verb}-{1 + verbs[:i].count(verb)}",
            verb,
            (*words, *asked.machine),
            number,
            of,
            tuple(configs),
        )
        for i, (verb, words, of, (number, configs)) in enumerate(before)
    ]


def refuse_runs(asked: Asked) -> None:
    """Raise UserError for words that name a run: a study samples the runs that it trains."""
    for stage, texts in asked.stages.items():
        for word in (word for words in texts for word in words):
            if word.startswith(("run=", "samples=")):
                what = "train begins runs of its own" if stage == "train" else "a study samples the runs that it trains"
                raise UserError(f"{stage}: {what}; leave out {word}, or train=")


def refuse_twice(words: Sequence[str], drawn: Sequence[Sequence[str]]) -> None:
    """Raise UserError for a key that evaluate and sample both say: the samples are drawn by the words of sample."""
    said = {word.partition("=")[0].lstrip("+"): word for text in drawn for word in text}
    for word in words:
        if (key := word.partition("=")[0].lstrip("+")) in said:
            raise UserError(f"sample says {said[key]} and evaluate says {word}; say {key}= in sample= alone")


def evaluations(asked: Asked) -> list[tuple[list[str], bool]]:
    """(words, whether for each run) of the sweeps of evaluate, so that nothing is computed twice.

    A job draws its samples itself, by the words of `sample`, and measures the metrics of samples on them; those of the field
    alone, which no sampler changes, are measured once for each run.
    """
    found: list[tuple[list[str], bool]] = []
    for words in asked.stages["evaluate"]:
        of_samples, of_field = parted(metrics_of(words))
        rest = [word for word in words if not word.startswith("metrics=")]
        for drawn in asked.stages["sample"] or [[]]:
            if of_samples:
                found.append(([*drawn, *rest, f"metrics=[{','.join(of_samples)}]"], True))
            field = [*(word for word in drawn if is_of_field(word, drawn)), *rest, f"metrics=[{','.join(of_field)}]"]
            if of_field and (field, True) not in found:
                found.append((field, True))
    return found


def is_of_field(word: str, words: Sequence[str]) -> bool:
    """Whether a word of a sample's text says which field is sampled."""
    key = word.partition("=")[0].partition(".")[0]
    return key in OF_FIELD or ("run=oracle" in words and key in OF_ORACLE)


def metrics_of(words: Sequence[str]) -> list[str]:
    """The metrics that an evaluation's text names. Raises UserError where it names none, or sweeps over them."""
    said = [word.partition("=")[2] for word in words if word.startswith("metrics=")]
    if len(said) != 1 or not re.fullmatch(r"\[?[\w, ]+\]?", said[0]):
        raise UserError(
            "evaluate: name what is measured in one list, e.g. metrics=[w2,likelihood]; what is of the field alone is then"
            " measured once for each run"
        )
    return [name.strip() for name in said[0].strip("[]").split(",")]


def parted(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """(the metrics that need samples, those of the field alone). Raises UserError for a word that names no metric."""
    from diffsde.evaluation import table

    try:
        table.check_words(names)
    except ValueError as error:
        raise UserError(f"evaluate: {error}") from None
    known = table.metrics()
    of_figure = {figure: metric for metric in known.values() for figure in metric.quantities}
    found: tuple[list[str], list[str]] = ([], [])
    for name in names:
        metric = known.get(table.RENAMED.get(name, name)) or of_figure.get(name)
        found[metric is not None and "samples" not in metric.needs].append(name)
    return found


def composed_jobs(verb: str, words: Sequence[str], begun: bool = False) -> tuple[int, list[dict[str, Any]]]:
    """(number of jobs of a sweep, configs of some of them: of each combination of choices, and with each value). Raises UserError.

    begun: the study is there, and its jobs that are done do not need the files that they read.
    """
    import hydra
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from diffsde.cli import composing

    add_resolver()
    choice_texts.offer(config_folder())
    groups = help_text.groups(config_folder(), verb)
    try:
        formed = word_forms.read(config_folder(), verb, words, sweeping=True)
        spelled = [qualified(verb, word) for word in spelling.hydra_words(config_folder(), verb, formed, sweeping=True)]
        composing.refuse_too_many(spelled)
        parsed = OverridesParser.create().parse_overrides(spelled)
        jobs = [job for batch in BasicSweeper.split_arguments(parsed, None) for job in batch]
        found, seen = [], set[Any]()
        with hydra.initialize_config_dir(str(config_folder()), version_base="1.3"):
            # as Hydra does before a sweep: words that only a swept experiment= gives a meaning are refused
            hydra.compose(verb, [str(each.input_line) for each in parsed if not each.is_sweep_override()])
            for job in jobs:
                choices = tuple(word for word in job if "@" in word or word.partition("=")[0] in groups)
                if {choices, *job} <= seen:
                    continue
                seen |= {choices, *job}
                found.append(plain(hydra.compose(verb, job)))
                knobs.check(found[-1])
                if not begun:
                    named_files.check(found[-1])
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(f"{verb}: {help_text.composition_error(str(error), config_folder(), verb)}") from None
    except UserError as error:
        raise UserError(f"{verb}: {error}") from None
    return len(jobs), found


def check_choices(verb: str, configs: Sequence[dict[str, Any]]) -> None:
    """Raise UserError for a config that its verb would refuse before it looks at any run or data."""
    try:
        for config in configs:
            check_choice(verb, config)
    except UserError as error:
        raise UserError(f"{verb}: {error}") from None
