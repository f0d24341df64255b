"""The one table of metrics, and the choice of metrics by the user's words and by the subject."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from diffsde import plugins
from diffsde.errors import UserError, suggestion
from diffsde.evaluation.bridge import BridgeFit
from diffsde.evaluation.budget import Budget
from diffsde.evaluation.flow_map_error import FlowMapError
from diffsde.evaluation.image_features import Frechet, LabelAccuracy, PrecisionRecall
from diffsde.evaluation.likelihood import Likelihood
from diffsde.evaluation.memorisation import NearestNeighbours
from diffsde.evaluation.metric import Metric, Quantity, Subject
from diffsde.evaluation.mixture_fit import MixtureFit
from diffsde.evaluation.modes import Modes
from diffsde.evaluation.reconstruction import Reconstruction
from diffsde.evaluation.snapshot_fit import SnapshotFit
from diffsde.evaluation.straightness import Straightness
from diffsde.evaluation.transport import W1, W2, Sinkhorn, SlicedW2
from diffsde.evaluation.two_sample import C2ST, MMD, EnergyDistance
from diffsde.runs import progress

# In the order in which they are measured by default; the first figure of a job is its score.
METRICS: dict[str, type[Metric]] = {
    "mixture": MixtureFit,
    "modes": Modes,
    "snapshots": SnapshotFit,
    "w2": W2,
    "w1": W1,
    "sliced_w2": SlicedW2,
    "sinkhorn": Sinkhorn,
    "energy_distance": EnergyDistance,
    "mmd": MMD,
    "c2st": C2ST,
    "reconstruction": Reconstruction,
    "frechet": Frechet,
    "prdc": PrecisionRecall,
    "labels": LabelAccuracy,
    "neighbours": NearestNeighbours,
    "flow_map": FlowMapError,
    "likelihood": Likelihood,
    "straightness": Straightness,
    "budget": Budget,
    "bridge": BridgeFit,
}
RENAMED = {"balls": "prdc"}  # former names of metrics; the new name is printed
# Words that mean different metrics for different subjects.
OLD: dict[str, Callable[[Subject], str]] = {"distance": lambda subject: name_of_fit(subject)}


def metrics() -> dict[str, type[Metric]]:
    """METRICS, and the user's own."""
    return METRICS | plugins.parts("metric")


def quantities() -> dict[str, Quantity]:
    """Unit and direction of every figure of every metric, by the figure's name."""
    return {figure: quantity for metric in metrics().values() for figure, quantity in metric.quantities.items()}


def name_of_fit(subject: Subject) -> str:
    """The name of the metric that says how well samples follow their law, which `sample` measures."""
    if subject.problem is not None:
        return "reconstruction"
    return "w2" if subject.dataset.law() is None else "mixture"


class Chosen(NamedTuple):
    """A metric to be measured, and its name; figures: the names of the figures that are kept, None: all."""

    name: str
    metric: Metric
    figures: frozenset[str] | None = None


def words() -> list[str]:
    """Every word that names a metric or a figure."""
    return [*metrics(), *(name for name in quantities() if name not in metrics()), *OLD, *RENAMED]


def check_words(asked: Sequence[str]) -> None:
    """Raise ValueError for an empty list of words, a word that names no metric, and a word given twice."""
    for word in asked:
        if word not in words():
            near = suggestion(word, words()) or suggestion(word, metrics(), most=40)
            raise ValueError(f"metrics: '{word}' is not a metric{near}")
    if not asked or len(set(asked)) < len(asked):
        raise ValueError(f"metrics is {list(asked)}; name each that is wanted once, e.g. metrics=[likelihood]")


def meant(word: str, subject: Subject) -> tuple[str, str | None]:
    """The name of the metric that a word means for the subject, and the name of its figure, None for all figures."""
    if new := RENAMED.get(word):
        progress.say(f"metrics: '{word}' is called {new} now")
        return new, None
    if word in OLD:
        return OLD[word](subject), None
    if word in metrics():
        return word, None
    able = [name for name, metric in metrics().items() if word in metric.quantities]
    return next((name for name in able if metrics()[name]().is_default(subject)), able[0]), word


def choose_metrics(
    asked: Sequence[str] | None, subject: Subject, made: dict[str, Metric], many: bool = False
) -> list[Chosen]:
    """The metrics to measure: those that the user named (`asked`), or all defaults that are available for the subject.

    A default that is not available is printed. made: metrics whose settings are not the defaults, by name. many: whether the
    user set the number of samples, so that a metric that needs more is an error. Raises UserError where a named metric is
    not available, or none is.
    """
    kept: dict[str, frozenset[str] | None] = {}
    for word in asked or [name for name, kind in metrics().items() if made.get(name, kind()).is_default(subject)]:
        name, figure = meant(word, subject)
        figures = kept.get(name, frozenset())
        kept[name] = None if figure is None or figures is None else figures | {figure}
    subject.named = tuple(kept) if asked else ()
    found = []
    for name, figures in kept.items():
        metric = made.get(name) or metrics()[name]()
        if why := metric.unavailable(subject):
            if asked or (many and f"; n is {subject.n}" in why):
                raise UserError(f"metrics: {name} is not available: {why}")
            progress.say(f"not measured: {name}: {why}")
        else:
            found.append(Chosen(name, metric, figures))
    if not found:
        raise UserError("metrics: none is available")
    for chosen in found:
        chosen.metric.prepare(subject)
    return found


def figures_kept(found: dict[str, Any], figures: frozenset[str] | None) -> dict[str, Any]:
    """The figures whose names are in `figures`; None: all."""
    return found if figures is None else {name: figure for name, figure in found.items() if name in figures}
