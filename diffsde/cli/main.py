"""The entry point: argv -> verb -> Hydra -> jobs -> exit status; hydra is imported only when a verb runs."""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial, update_wrapper
from pathlib import Path
from typing import Any

from diffsde import __version__, memory, plugins, signals, system_errors, terminal
from diffsde.cli import choice_texts, completion, help_text, spelling, word_forms
from diffsde.cli.job import VERBS, Jobs, about_to, add_resolver, config_folder, plain, run_job
from diffsde.cli.plain import PLAIN, run_plain
from diffsde.cli.word_forms import HYDRA_FLAGS, MULTIRUN
from diffsde.errors import AND, Stopped, UserError, suggestion
from diffsde.runs import clock, leaving, provenance


def main(argv: list[str] | None = None) -> int:
    """Run one command line and return its exit status.

    0: success; 2: an error that the user can mend; 130: interrupted; 128 + signal: stopped; 141: success, but the reader of
    the output closed the pipe.
    """
    clock.begin()
    with terminal.guarded() as outputs:
        words = list(sys.argv[1:] if argv is None else argv)
        with provenance.given(shlex.join(["diffsde", *words]), {}):
            status = signals.answered(partial(_main, words))
    left = any(isinstance(output.error, BrokenPipeError) for output in outputs)
    return terminal.BROKEN_PIPE if left and status == 0 else status


def _main(words: list[str]) -> int:
    if line := os.environ.get("COMP_LINE"):  # the shell asks, at the press of the tab key
        offered: list[str] = []  # nor is a folder that cannot be read a matter of the line that is typed
        with (
            contextlib.suppress(UserError),
            contextlib.redirect_stderr(io.StringIO()),
            system_errors.as_user_errors(),
        ):
            offered = completion.completions(config_folder(), VERBS, HYDRA_FLAGS, line)
        print("\n".join(offered))
        return 0
    if not words or words[0] in ("-h", "--help", "help"):
        print(help_text.overview(config_folder(), VERBS))
        return 0
    if words[0] in ("-V", "--version"):
        print(f"diffsde {__version__}")
        return 0
    try:
        with system_errors.as_user_errors(*names_in(words)):
            run(words[0], words[1:])
        return 0
    except UserError as error:
        signals.again()
        terminal.traced(error)
        for line in str(error).split(AND):  # a sweep's, one for each job
            print(f"diffsde: {terminal.printable(line)}", file=sys.stderr)
        return 2
    except Stopped:
        raise
    except KeyboardInterrupt:
        print("diffsde: interrupted", file=sys.stderr)
        return 130


def names_in(words: Sequence[str]) -> list[str]:
    """What may be a file's name in words: each, its value, and the entries of a list."""
    values = [word.partition("=")[2] for word in words]
    return [*words, *values, *(part.strip("[]'\" ") for value in values for part in value.split(","))]


def run(verb: str, rest: list[str]) -> None:
    """Run a verb with the words after it. Raises UserError, Stopped and errors of the system."""
    if verb == "-sc":
        print(completion.script(rest[0] if rest else ""))
        return
    if verb == "--install-completion":
        print(completion.install(rest[0] if rest else ""))
        return
    if verb in PLAIN:
        run_plain(verb, rest)
        return
    if "=" in verb:
        raise UserError(
            f"'{verb}' is not a verb, with which a command begins: diffsde train {shlex.join([verb, *rest])}"
        )
    if verb not in VERBS:
        raise UserError(f"'{verb}' is not a verb{suggestion(verb, [*VERBS, *PLAIN])}; see diffsde --help")
    rest, named = spelling.without_plugins(rest)
    plugins.load(named)
    if "-h" in rest or "--help" in rest:
        print(help_text.verb_help(config_folder(), verb, rest))
        return
    rest = word_forms.read(config_folder(), verb, rest, bool(MULTIRUN & set(rest)))
    if MULTIRUN & set(rest) and any(word.startswith("hydra.run.dir=") for word in rest):
        raise UserError("hydra.run.dir is of one run; a sweep writes into hydra.sweep.dir=DIR, a folder for each job")
    run_hydra(verb, rest, Jobs(plugins=named))


def run_hydra(verb: str, words: list[str], jobs: Jobs) -> None:
    """Compose the config and run the verb; errors of Hydra become a UserError of one line. jobs: their state, none begun yet."""
    memory.tune_malloc()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors reach us as exceptions, not as its own report and exit status 1
    import hydra
    import yaml

    add_resolver()
    choice_texts.offer(config_folder())
    sweeping = bool(MULTIRUN & set(words))
    words = spelling.hydra_words(config_folder(), verb, words, sweeping)
    if sweeping:
        words = _begun_before(verb, words)
    spelled = [qualified(verb, word) for word in words if word not in MULTIRUN]
    if sweeping:  # argparse accepts it before or after the words, not among them
        spelled = ["--multirun", *spelled]
    before = sys.argv
    sys.argv = ["diffsde", *spelled]
    task = update_wrapper(partial(run_job, jobs=jobs), run_job)
    with ExitStack() as stack:
        stack.callback(setattr, sys, "argv", before)
        places: list[Path] = []
        stack.callback(about_to.reset, about_to.set(places))
        try:
            if sweeping:
                from diffsde.cli import sweeps

                again = jobs.compares and "resume=false" not in words
                sweep = stack.enter_context(sweeps.running(jobs, again))
            else:
                stack.enter_context(signals.leaving(partial(leaving.left_unbegun, places, jobs.begun)))
            hydra.main(version_base="1.3", config_path=str(config_folder()), config_name=verb)(task)()
            if sweeping:
                jobs.refused.extend(sweep.finish(jobs.compares))
            if jobs.refused:
                raise UserError(AND.join(jobs.refused))
        except UserError:
            raise
        except yaml.YAMLError as error:
            raise UserError(f"a config file is not valid YAML: {' '.join(str(error).split())}") from error
        except SystemExit as stop:  # argparse: an unknown --option, already explained by it
            if isinstance(stop.code, str):
                raise UserError(stop.code) from None
            if stop.code not in (0, None):
                raise UserError(f"see diffsde {verb} --help") from None
        except Exception as error:
            signals.again()
            if jobs.begun or isinstance(error, UserError):
                raise
            if said := system_errors.line(
                error, [*places, *names_in(words)]
            ):  # the folder is the command's, not of a word
                raise UserError(said) from error
            raise UserError(help_text.composition_error(str(error), config_folder(), verb, words)) from error


def _begun_before(verb: str, words: list[str]) -> list[str]:
    """The words of a sweep; if there is an unfinished sweep of the same words, with its folder, so that it is resumed."""
    from diffsde.cli import sweeps

    sweeps.register_plugins()
    if any(word.startswith(("hydra.sweep.dir=", "hydra/sweeper=", "resume=false")) for word in words):
        return words
    given = [qualified(verb, word) for word in words if not word.startswith(("-", "hydra"))]
    found = sweeps.unfinished_sweep(verb, given)
    if found is None:
        return words
    print(f"resuming the sweep in {terminal.printable(str(found))} (resume=false begins afresh)", flush=True)
    return [*words, f"hydra.sweep.dir={found}"]


def composed(verb: str, words: list[str]) -> dict[str, Any]:
    """The config of a verb with the words, as a plain dict: the argument of the verb's function."""
    import hydra

    add_resolver()
    words, named = spelling.without_plugins(words)
    plugins.load(named)
    choice_texts.offer(config_folder())
    with hydra.initialize_config_dir(str(config_folder()), version_base="1.3"):
        spelled = spelling.hydra_words(config_folder(), verb, words, sweeping=False)
        return plain(hydra.compose(verb, [qualified(verb, word) for word in spelled]))


def qualified(verb: str, word: str) -> str:
    """A word with short group names spelled out: diffusion= lies inside the sampler (but for show), experiment= has choices per verb, and in
    `simulate` dataset= lies inside the process. source= is a dataset too.
    """
    if word.startswith("experiment="):
        return word.replace("experiment", f"experiment/{verb}@_global_", 1)
    if word.startswith("source.drawn_from="):
        return word.replace("source", "dataset@source", 1)
    if word.startswith("dataset.drawn_from="):
        return word.replace("dataset", "dataset@dataset", 1) if verb != "simulate" else f"dataset@process.{word}"
    if verb == "simulate" and word.startswith("dataset="):
        return f"dataset@process.{word}"
    if verb == "simulate" and word.startswith("dataset."):
        return f"process.{word}"
    if word.startswith("source="):
        return f"dataset@{word}"
    return f"diffusion@sampler.{word}" if verb not in ("train", "show") and word.startswith("diffusion=") else word
