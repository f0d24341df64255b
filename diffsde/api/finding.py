"""Runs found and repeated from Python: diffsde.find and diffsde.rerun."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from diffsde.api import running
from diffsde.api.refusals import refusals
from diffsde.cli.from_python import in_yaml
from diffsde.runs import records
from diffsde.runs.records import Record

if TYPE_CHECKING:
    from diffsde.cli.rerun import Rerun


@refusals
def find(*words: str | Path, verb: str | None = None, **filters: Any) -> list[Record]:
    """The records of runs, newest first: as `diffsde runs` lists them. words: folders, ids, names, globs, filters "path=ot".
    filters: path="ot", state="whole", tag="x". verb: of this verb alone. Without any, all under outputs/.

    >>> import diffsde, tempfile
    >>> with tempfile.TemporaryDirectory() as where:
    ...     drawn = diffsde.sample(run="oracle", dataset="gmm", path="ot", n=20, steps=4, folder=where + "/drawn")
    ...     (record,) = diffsde.find(where, path="ot")
    >>> record.verb, record.state, record.summary["steps"]
    ('sample', 'whole', 4)
    """
    asked = [f"{key.replace('__', '.')}={records.text_of(in_yaml(key, value))}" for key, value in filters.items()]
    if not words and not asked:
        return [record for record in records.newest_first(records.every()) if verb in (None, record.verb)]
    return records.select([*map(str, words), *asked], verb)


@refusals
def rerun(run: str | Path, *, folder: str | Path | None = None, verbose: bool = False) -> Rerun:
    """Repeat a run from its folder: `diffsde rerun`. run: a folder, an id, a name or "latest". folder: where; None: a new folder
    under outputs/. What it returns says whether the bits are the `same`, which `parts` are not, and for what `reasons`.
    """
    from diffsde.cli import rerun as again

    with running.session(verbose):
        return again.rerun([str(run)], Path(folder).expanduser() if folder is not None else None)
