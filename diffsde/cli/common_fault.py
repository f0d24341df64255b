"""A fault that all jobs of a sweep share: said once, before any of them begins."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from omegaconf.errors import OmegaConfBaseException

from diffsde import knobs, named_files, plugins
from diffsde.cli import help_text
from diffsde.cli.job import VERBS, config_folder, job_config, words_of
from diffsde.errors import UserError
from diffsde.runs import flow_words

Check = Callable[[str, dict[str, Any], Sequence[str]], None]


def refuse_common(verb: str, jobs: Callable[[], Iterable[Any]]) -> None:
    """Raise UserError for what all jobs would refuse: of their words first, then, with jax imported, of their choices.

    jobs: makes the composed configs, one at a time, so that it costs little where the first job is sound.
    """
    for check in (check_words, check_choice):
        faults = set()
        for config in jobs():
            faults.add(fault(check, verb, config))
            if len(faults) > 1 or None in faults:
                break
        else:
            if faults:
                raise UserError(str(faults.pop()))


def fault(check: Check, verb: str, config: Any) -> str | None:
    """What a check says against a composed config; None where that is nothing."""
    words = words_of(config.hydra.overrides.task)
    try:
        check(verb, job_config(config, verb, True, words), words)
    except UserError as error:
        return str(error)
    except OmegaConfBaseException as error:
        return help_text.composition_error(str(error), config_folder(), verb, words)
    return None


def check_words(verb: str, config: dict[str, Any], words: Sequence[str]) -> None:
    """Raise UserError for a number, a word or a file that is refused without jax."""
    knobs.check(config)
    flow_words.refuse(verb, config, [word.partition("=")[0] for word in words])
    named_files.check(config)


def check_choice(verb: str, config: dict[str, Any], words: Sequence[str] = ()) -> None:
    """Raise UserError for a config that its verb would refuse before it looks at any run or data.

    The process is configured first, by what the config says itself: a path's expressions are tried by a program of jax.
    """
    from diffsde.runs.machine import configure_process  # here: it imports jax

    module = importlib.import_module(VERBS[verb])
    unset = {"n": 1} if verb == "evaluate" and config["n"] is None else {}  # its default is asked of the run
    if hasattr(module, "VERB"):  # explain and show choose as they go
        configure_process(config)
        with plugins.as_user_errors():
            module.VERB.choose(config | unset)
