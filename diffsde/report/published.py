"""Published figures beside measured ones: what agrees within the spread of seeds, what does not, and why where that is known."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from diffsde.metrics.differences import Error, added, error
from diffsde.runs.records import Record, agrees, trained, values_of

RESOLVED = 2.0  # standard errors by which a difference from a published figure counts
COLUMNS = ("", "figure", "published", "measured", "agrees")


class Measured(NamedTuple):
    """A figure over seeds: its values, one for each job, and the jobs' seeds (of the trained run, of the samples).

    floor: the mean of what two true sets have, where the figure has a floor.
    """

    values: tuple[float, ...]
    seeds: tuple[tuple[str, ...], ...] = ()
    floor: float | None = None

    @property
    def mean(self) -> float:
        return statistics.fmean(self.values)

    @property
    def sd(self) -> float:
        """The standard deviation between seeds; NaN for one."""
        return statistics.stdev(self.values) if len(self.values) > 1 else math.nan

    def shown(self) -> str:
        """As text: mean +- sd (n), and the floor."""
        spread = "" if math.isnan(self.sd) else f" +- {self.sd:.3g}"
        floor = "" if self.floor is None else f"; two true sets {self.floor:.3g}"
        return f"{self.mean:.4g}{spread} ({len(self.values)} seed{'s' * (len(self.values) > 1)}{floor})"


def measured(records: Sequence[Record], where: Mapping[str, Any], figure: str, gap: bool = False) -> Measured | None:
    """A figure, or another number of the summary, of the finished jobs whose choices are as `where` says; None where there is none.

    gap: its distance from the exact value instead.
    """
    found = [record for record in records if record.state == "whole" and fits(record, where)]
    pairs = [(seeds_of(each), value) for each in found if (value := number_of(each.summary, figure, gap)) is not None]
    seeds, values = zip(*sorted(pairs), strict=True) if pairs else ((), ())
    held = [each.summary.get("metrics", {}).get(figure) for each in found]
    floors = [each["floor"] for each in held if isinstance(each, dict) and isinstance(each.get("floor"), int | float)]
    return Measured(values, seeds, statistics.fmean(floors) if floors else None) if pairs else None


def seeds_of(record: Record) -> tuple[str, ...]:
    """The seeds of the run that a job sampled from, and of the job."""
    return tuple(str(seed) for key in ("run.seed", "seed") for seed in values_of(record, key, trained))


def fits(record: Record, where: Mapping[str, Any]) -> bool:
    """Whether a job, or the run that it sampled from, has the choices; null: has none of the key."""

    def fit(key: str, wanted: Any) -> bool:
        held = values_of(record, key, trained)
        if wanted is None:
            return all(each is None for each in held)
        return any(agrees(str(wanted), each) for each in held)

    return all(fit(key, wanted) for key, wanted in where.items())


def number_of(summary: Mapping[str, Any], figure: str, gap: bool = False) -> float | None:
    """The value of a figure, or of an entry of the summary itself, e.g. nfe; gap: the distance from its exact value."""
    held = summary.get("metrics", {}).get(figure, summary.get(figure))
    value, exact = (held.get("value"), held.get("exact")) if isinstance(held, dict) else (held, None)
    if not isinstance(value, int | float) or (gap and not isinstance(exact, int | float)):
        return None
    return abs(value - exact) if gap else float(value)  # type: ignore[operator]  # a number: asked above


def table(published: Mapping[str, Any], records: Sequence[Record]) -> list[tuple[str, ...]]:
    """The rows of COLUMNS: a row for each published figure, and for each ordering."""
    rows = [row_of(each, records) for each in published.get("figures", ())]
    return rows + [ordering(each, records) for each in published.get("orderings", ())]


def row_of(entry: Mapping[str, Any], records: Sequence[Record]) -> tuple[str, ...]:
    """A published figure beside the measured one."""
    found = measured(records, entry["where"], entry["figure"])
    spread = f" +- {entry['sd']:g}" if "sd" in entry else ""
    said = f"{entry['value']:g}{spread}"
    if found is None:
        return entry["what"], entry["figure"], said, "not measured", ""
    return entry["what"], entry["figure"], said, found.shown(), verdict(entry, found)


def verdict(entry: Mapping[str, Any], found: Measured) -> str:
    """Whether a measured figure agrees: `yes`, or by how much it differs, and why if that is known.

    It agrees where it differs by at most twice the spreads of single runs; where `n` runs were published, and the means differ
    by more than twice their own standard errors, that is said too.
    """
    sd = 0.0 if math.isnan(found.sd) else found.sd
    spread, off = math.hypot(entry.get("sd", 0.0), sd), found.mean - entry["value"]
    if not spread:
        return "one seed and no spread: not to be said"
    differs = f"{'higher' if off > 0 else 'lower'} by {abs(off):.3g}"
    because = f": {entry['because']}" if entry.get("because") else ""
    if abs(off) > RESOLVED * spread:
        return f"no, {differs}{because}"
    own = math.hypot(entry.get("sd", 0.0) / math.sqrt(entry.get("n", 1)), sd / math.sqrt(len(found.values)))
    if "n" in entry and "sd" in entry and abs(off) > RESOLVED * own:
        return f"within the spread of runs; the mean is {differs}, {abs(off) / own:.1f} standard errors{because}"
    return "yes"


def ordering(entry: Mapping[str, Any], records: Sequence[Record]) -> tuple[str, ...]:
    """A published ordering, from the lowest: whether each next one is higher by more than the errors."""
    found = [measured(records, each["where"], entry["figure"], entry.get("gap", False)) for each in entry["from_low"]]
    names = [each["what"] for each in entry["from_low"]]
    said = " < ".join(names)
    if any(each is None for each in found):
        return entry["what"], entry["figure"], said, "not measured", ""
    known = [each for each in found if each is not None]
    shown = "; ".join(f"{name} {each.shown()}" for name, each in zip(names, known, strict=True))
    wrong = [compared(low, high) for low, high in itertools.pairwise(known)]
    pairs = list(itertools.pairwise(names))
    not_so = [f"{low} against {high} {how}" for (low, high), how in zip(pairs, wrong, strict=True) if how]
    because = f": {entry['because']}" if not_so and entry.get("because") else ""
    return entry["what"], entry["figure"], said, shown, f"no, {', '.join(not_so)}{because}" if not_so else "yes"


def compared(low: Measured, high: Measured) -> str:
    """'' where the second is higher by more than the errors of both; else `is the other way round`, or `is not resolved`.

    The same seeds are compared seed by seed.
    """
    if low.seeds == high.seeds:
        differences = [b - a for a, b in zip(low.values, high.values, strict=True)]
        mean = statistics.fmean(differences)
        by = mean_error(statistics.stdev(differences) if len(differences) > 1 else math.nan, len(differences))
    else:
        mean = high.mean - low.mean
        by = added([mean_error(each.sd, len(each.values)) for each in (low, high)])
    if by.error is None:
        return "is not resolved by one seed"
    if abs(mean) <= by.margin:
        return "is not resolved"
    return "" if mean > 0 else "is the other way round"


def mean_error(sd: float, n: int) -> Error:
    """The error of a mean of n values, by Student's t."""
    return error(sd / math.sqrt(n), n - 1)


def markdown(published: Mapping[str, Any], rows: Sequence[Sequence[str]]) -> str:
    """The table as Markdown, under its source."""
    lines = [f"| {' | '.join(COLUMNS)} |", "|" + "---|" * len(COLUMNS)]
    lines += [f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows]
    return "\n".join([f"Published: {published.get('source', '')}", "", *lines, ""])
