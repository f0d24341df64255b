"""The verbs as functions: diffsde.train, sample, evaluate, explain, and simulate and show where there are these verbs."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from diffsde.api import running
from diffsde.api.fields import Run, classifier_run, refuse_field_words, restored_run
from diffsde.api.findings import Findings
from diffsde.api.refusals import refusals
from diffsde.errors import Stopped, UserError
from diffsde.runs import jobs


@refusals
def train(*, folder: str | Path | None = None, verbose: bool = False, **words: Any) -> Run:
    """Train a field: the Run of `diffsde train` with these words. folder: the run folder, written as the command writes it, or
    gone on with where it holds an unfinished run of these words; None: a temporary one, which is removed with the Run.

    The words are the command line's: dataset, path, objective, net, optimizer, steps, seed, ... A bar shows how far it is.

    >>> import diffsde
    >>> run = diffsde.train(dataset="moons", steps=2, log_every=1, posterior_points=0, net={"name": "mlp", "widths": [8]})
    >>> run.losses.shape
    (2,)
    """
    from diffsde.verbs.train import VERB

    if words.get("run") is not None:
        raise UserError(
            "run= goes on with a run; say diffsde.train(folder=...) with its words, or init= for a run of its own"
        )
    with running.session(verbose, words):
        config = running.configured("train", words if folder or "pictures" in words else {**words, "pictures": "none"})
        classifies = config["objective"]["name"] == "classifier"
        if classifies and folder is None:
            raise UserError("objective=classifier: a classifier guides from its folder; say folder=, and then guide=")
        where = Path(tempfile.mkdtemp(prefix="diffsde-") if folder is None else os.path.expanduser(folder))
        try:
            jobs.single(VERB, config, where, True)
            run = classifier_run(where) if classifies else restored_run(where)
        except BaseException as error:
            if isinstance(error, Stopped):
                error.add("saved; the same call goes on" if folder is not None else "without folder= nothing is kept")
            if folder is None:
                shutil.rmtree(where, ignore_errors=True)
            raise
    if folder is None:
        weakref.finalize(run, shutil.rmtree, where, ignore_errors=True)  # at the end of Python too
    return run


@refusals
def sample(*, folder: str | Path | None = None, verbose: bool = False, **words: Any) -> Findings:
    """Draw samples: `diffsde sample` with these words, from run="latest" unless they say another. See Run.sample.

    >>> import diffsde
    >>> diffsde.sample(run="oracle", dataset="gmm", path="ot", n=20, steps=4).x.shape
    (20, 2)
    """
    return running.run_verb("sample", words, folder, verbose)


@refusals
def evaluate(
    run: Run | str | Path = "latest", *, folder: str | Path | None = None, verbose: bool = False, **words: Any
) -> Findings:
    """Measure a field and its samples: `diffsde evaluate` with these words. run: a Run, a folder, "latest" or "oracle".

    >>> import diffsde
    >>> exact = diffsde.oracle(dataset="gmm", path="ot")
    >>> found = diffsde.evaluate(exact, metrics=["likelihood"], n_test=20, solver_steps=4)
    >>> sorted(found.figures)
    ['kl', 'nll']
    """
    if isinstance(run, Run):
        refuse_field_words(words)
    named = run.named() if isinstance(run, Run) else {"run": run}
    return running.run_verb("evaluate", {**named, **words}, folder, verbose)


@refusals
def simulate(*, folder: str | Path | None = None, verbose: bool = False, **words: Any) -> Findings:
    """Paths of any SDE: `diffsde simulate` with these words; .x, .trajectory and .figures, held against what is known."""
    return running.run_verb("simulate", words, folder, verbose)


@refusals
def show(
    what: str,
    run: Run | str | Path | Sequence[Run | str | Path] = (),
    *,
    folder: str | Path | None = None,
    verbose: bool = False,
    **words: Any,
) -> Any:
    """A picture, as a matplotlib Figure: `diffsde show what=...` of a run, of a list of runs, or of dataset= and path=."""
    named: dict[str, Any] = {}
    if not isinstance(run, Run | str | Path | list | tuple):
        raise UserError(f"run is a {type(run).__name__}; give a Run, a folder, or a list of these")
    for each in [run] if isinstance(run, Run | str | Path) else run:
        theirs = each.named() if isinstance(each, Run) else {"run": str(each)}
        place, before = theirs.pop("run"), named.pop("run", [])
        if before and theirs != named:
            raise UserError(f"run: the runs are {named or 'plain'} and {theirs or 'plain'}; load all of them alike")
        named = {**theirs, "run": [*before, place]}
    if len(named.get("run", [])) == 1:
        named["run"] = named["run"][0]
    asked = {"what": what, **named, **words}
    found = running.run_verb("show", asked, folder, verbose)
    if not found.drawings:  # the folder has it already, as a file
        found = running.run_verb("show", asked, None, verbose)
    return next(iter(found.drawings.values()))


@refusals
def explain(**words: Any) -> Findings:
    """The equations of a configuration, its limits and what speaks against it: `diffsde explain`. Print what it returns.

    >>> import diffsde
    >>> print(diffsde.explain(path="sqrt").lines[0])
    path=sqrt
    """
    from diffsde.verbs.explain import result_of

    with running.session(verbose=False):
        config = running.configured("explain", words)
        lines = result_of(config).report().lines
    return Findings("explain", "", {}, {}, config, lines=lines)
