"""What `diffsde show` draws of: the exact field and trained ones, with data to go with them, and a picture that is not yet drawn."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

from diffsde import ensembles
from diffsde.build import name_of
from diffsde.couplings import Coupling
from diffsde.datasets import Dataset, Snapshots, are_images, point_shape
from diffsde.datasets.normal import StandardNormal
from diffsde.datasets.scaling import Scaling, same_scaling, to_own
from diffsde.errors import UserError
from diffsde.fields import ENDS_ALONE, VELOCITY_ALONE, EmpiricalField, Field, OracleField, bound
from diffsde.interpolants import OracleInterpolant
from diffsde.paths import GaussianPath, check_ends
from diffsde.paths.piecewise import Piecewise
from diffsde.pictures.between import Between
from diffsde.plots.style import escape_formulas
from diffsde.runs import progress
from diffsde.runs.load_field import interpolant_of
from diffsde.runs.show_config import ShowConfig
from diffsde.types import Array, Key, on_device

DRAWN = 4000  # points from which a picture's window is found


class ShownField(NamedTuple):
    """A trained field and its title in pictures."""

    field: Field
    title: str


class ShownSubject(NamedTuple):
    """What a picture is of.

    exact: the exact field on `path`, where it is known; path: None for the law of a dataset alone. runs: the trained fields.
    scaling: between the model's units and the data's own. of: all of this as text, for titles. source: the law at t = 0, None
    for N(0, I); coupling: how its points go with the data's, `paired` of them at a time, None for independently.
    """

    dataset: Dataset
    path: GaussianPath | None
    shape: tuple[int, ...]
    scaling: Scaling | None
    exact: OracleField | EmpiricalField | OracleInterpolant | None
    runs: tuple[ShownField, ...]
    label: int | None
    of: str
    source: Dataset | None = None
    coupling: Coupling | None = None
    paired: int = 256

    @property
    def between(self) -> Between:
        """How x_t comes about. Raises UserError without a path."""
        if self.path is None:
            raise UserError("path: say along which path, e.g. path=ot")
        series = self.dataset if isinstance(self.dataset, Snapshots) else None
        return Between(self.path, self.source, self.coupling, self.paired, series)

    @property
    def d(self) -> int:
        """The number of a point's coordinates."""
        return int(np.prod(self.shape))

    def names(self) -> tuple[str, ...]:
        """The coordinates' names."""
        named = tuple(map(escape_formulas, self.dataset.column_names()))
        return named or (("$x$",) if self.d == 1 else tuple(f"$x_{i + 1}$" for i in range(self.d)))

    def data(self, n: int, key: Key) -> np.ndarray:
        """Points z of the data (n, *shape), of the label if there is one, in the model's units. Raises UserError."""
        labels = None if self.label is None else np.asarray([self.label])
        return np.asarray(self.dataset.draw_given(self.dataset.load(), labels, key, n))

    def own(self, x: Any) -> np.ndarray:
        """Points (..., *shape) in the data's own units."""
        return to_own(self.scaling, x)


def subject(chosen: ShowConfig) -> ShownSubject:
    """What the picture is of, read from run= or from dataset= and path=. Raises UserError."""
    if chosen.runs:
        return _of_runs(chosen)
    dataset, path, source = chosen.dataset, chosen.path, chosen.source
    assert dataset is not None
    if (
        isinstance(dataset, Snapshots) and path is not None
    ):  # which imply where it begins, and goes from each to the next
        if source is not None:
            raise UserError("source: snapshots begin at the first of them; leave it out")
        check_ends(path)
        path, source = Piecewise(path, on_device(dataset.knots, float)), dataset.first
    shape = point_shape(dataset, dataset.load())
    exact = _exact(source, dataset, path, shape, chosen.label)
    of = ends_name(source, dataset) + ("" if path is None else f", path {name_of(path)}") + _labelled(chosen)
    return ShownSubject(dataset, path, shape, dataset.scaling(shape), exact, (), chosen.label, of, source)


def dataset_name(dataset: Dataset) -> str:
    """The dataset's word, with the name of its file where it has one."""
    files = [str(getattr(dataset, name)) for name in dataset.FILES if getattr(dataset, name)]
    return name_of(dataset) + (f" {Path(files[0]).name}" if files else "")


def ends_name(source: Dataset | None, dataset: Dataset) -> str:
    """The words of the laws at both ends; of the dataset alone where the other is noise."""
    if source is None or isinstance(dataset, Snapshots):
        return dataset_name(dataset)
    return f"{dataset_name(source)} to {dataset_name(dataset)}"


def _labelled(chosen: ShowConfig) -> str:
    return "" if chosen.label is None else f", class {chosen.label}"


def _of_runs(chosen: ShowConfig) -> ShownSubject:
    """What a picture of runs is of: the data and the exact field of the first, and the fields of all."""
    each = [_of_run(chosen, run) for run in chosen.runs]
    first = each[0]
    for run, other in zip(chosen.runs[1:], each[1:], strict=True):
        if other.shape != first.shape:
            raise UserError(f"run: '{run}' is of points of shape {other.shape}, the first run of {first.shape}")
        if not same_scaling(other.scaling, first.scaling):
            raise UserError(f"run: '{run}' was trained on data of another mean and std than the first run")
        if not ensembles.equal(other.path, first.path):
            raise UserError(f"run: '{run}' was trained on another path than the first run; their p_t are not the same")
    objectives = [one.runs[0].title for one in each]
    titles = [f"learned ({objective})" for objective in objectives]
    if len(set(titles)) < len(titles):
        titles = [f"run {i + 1} ({objective})" for i, objective in enumerate(objectives)]
    runs = tuple(one.runs[0]._replace(title=title) for one, title in zip(each, titles, strict=True))
    where = "; ".join(f"{title}: {one.of}" for title, one in zip(titles, each, strict=True))
    what = f"{ends_name(first.source, first.dataset)}, path {name_of(first.path)}{_labelled(chosen)}"
    return first._replace(runs=runs, of=f"{what}; {where}")


def _of_run(chosen: ShowConfig, run: str) -> ShownSubject:
    """What a picture of one run is of; its title is the objective's word, `of` its folder and step."""
    from diffsde.runs.restore import restore  # here: it imports flax and optax

    config, field, step = restore(Path(run), chosen.ema, chosen.checkpoint or "last", chosen.machine.precision)
    if config.label_dropout == 0 and chosen.label is None:
        raise UserError(f"label: '{run}' was trained with label_dropout=0 and needs one; give label=, e.g. label=0")
    if not field.knows_velocity and chosen.what != "marginals":
        raise UserError(f"run: '{run}': {ENDS_ALONE}, of which what={chosen.what} is; what=marginals shows samples")
    if not field.follows_path and (chosen.what, chosen.of) not in (("field", None), ("field", "run")):
        raise UserError(f"run: '{run}': {VELOCITY_ALONE}, which is what=field of=run draws")
    dataset, shape, label = config.dataset, field.shape, chosen.label
    trained = ShownField(bound_label(field, label), name_of(config.objective))
    exact, of = (
        _exact(config.source, dataset, config.path, shape, label) if field.follows_path else None,
        f"{progress.shown_path(Path(run))} at step {step}",
    )
    return ShownSubject(
        dataset, config.path, shape, dataset.scaling(shape), exact, (trained,), label, of, config.source
    )


def bound_label(field: Any, label: int | None) -> Any:
    """The field, or the flow, of a label; None: without one. Raises UserError for a label that it lacks."""
    if label is None:
        return field
    if not field.classes:
        raise UserError("label: this field knows none; mixtures and runs with dataset.conditional=true do")
    if label >= field.classes:
        raise UserError(f"label: {label} is not a label of this field; they are 0 to {field.classes - 1}")
    return bound(field, np.asarray(label, np.int32))


def _exact(
    source: Dataset | None, dataset: Dataset, path: GaussianPath | None, shape: tuple[int, ...], label: int | None
) -> Any:
    """The exact field of points in a few dimensions; None where it is not known, or where the data cannot be read."""
    if path is None or are_images(shape):
        return None
    two_laws = source is not None or path.has_gamma
    if two_laws and None in ((source or StandardNormal(shape)).law(), dataset.law()):
        return None
    try:
        field = interpolant_of(source, dataset, path) if two_laws else dataset.exact_field(path)
    except UserError:
        return None
    if field is None or (label is not None and not field.classes):
        return None
    return bound_label(field, label)


def need_exact(found: ShownSubject, what: str) -> OracleField | EmpiricalField | OracleInterpolant:
    """The exact field. Raises UserError where it is not known."""
    if found.exact is not None:
        return found.exact
    if found.path is not None and found.between.two_laws:
        raise UserError(
            f"what={what}: the exact field from one law to another is known between mixtures (gmm, gaussian, 8gaussians,"
            " mixture) that are independent; name a trained run with run=, or draw what=noising or conditional"
        )
    raise UserError(
        f"what={what}: the exact field of dataset={name_of(found.dataset)} is not known; it is of mixtures and of finite data"
        " in a few dimensions. Name a trained run with run=, or draw what=data, noising or conditional"
    )


def clouds_at(found: ShownSubject, times: np.ndarray, key: Key, n: int = DRAWN) -> np.ndarray:
    """x_t (m, n, *shape) at times (m,), one eps for all times, in the data's own units. Raises UserError."""
    key_z, key_eps = jax.random.split(key)  # a dataset splits its key: eps by a part of the same could be z's own noise
    return found.own(noised(found, found.data(n, key_z), key_eps, times))


def noised(found: ShownSubject, z: Any, key: Key, times: Any, labels: np.ndarray | None = None) -> Array:
    """x_t (m, n, *shape) for points z (n, *shape) of the data with labels (n,), drawn from a part of the key."""
    label = None if labels is None else jnp.asarray(labels)
    return found.between.draws(jnp.asarray(z), jax.random.fold_in(key, 1), jnp.asarray(times, float), label)


class Shown(NamedTuple):
    """A picture that is computed and not yet drawn: the arrays that it is drawn from, a function that draws it, and what is
    said of it: a title, rows of a table, numbers for summary.json.
    """

    arrays: dict[str, np.ndarray]
    draw: Callable[[], Figure]
    title: str
    rows: list[tuple[str, str]] = []
    summary: dict[str, Any] = {}
