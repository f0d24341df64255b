"""A Run in Python: the field that run= names, at points and times of one's own, in the data's own units."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffsde import likelihood, mixtures
from diffsde.api import running
from diffsde.api.findings import Findings
from diffsde.api.refusals import refusals
from diffsde.build import name_of
from diffsde.datasets import Dataset
from diffsde.datasets.normal import density_of
from diffsde.datasets.scaling import Scaling, log_volume, to_model, to_own
from diffsde.discrete_flow import DiscreteFlow, log_probs
from diffsde.errors import UserError
from diffsde.fields import ENDS_ALONE, VELOCITY_ALONE, EmpiricalField, Field, OracleField, bound, divergence
from diffsde.interpolants import OracleInterpolant
from diffsde.mixtures import Mixture
from diffsde.runs import files, machine, shapes
from diffsde.runs.load_field import load_field
from diffsde.runs.load_flow import load_flow, names_flow
from diffsde.runs.run_log import read_log
from diffsde.runs.sample_config import resolve_latest, sample_choices
from diffsde.samplers import GRIDS, times
from diffsde.samplers.ode import RK4
from diffsde.types import Array, Scalar

STEPS = 100  # of RK4, for log p by the ODE
Points = Any  # arrays of numpy or jax, or nested lists


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Run:
    """A field, and the data that it is of: a trained run, or the exact answer. Made by diffsde.load, oracle and train.

    Points are in the data's own units, as samples.npz has them: x_own = mean + std x_model, at every t. So velocity and E[z|x]
    are the data's too, the score is per unit of the data, and log p is a density in them. Noise has no unit. x is (n, *shape)
    or one point (*shape,), t () or (n,), labels () or (n,); results are numpy arrays of x's leading shape.
    A run of a discrete flow (net=realnvp, spline) has `sample` and `log_prob`, and no field: what is of a field says so.
    field, dataset: the objects inside, jax pytrees in the model's units, for code of your own; source: the law at t = 0 between
    two laws, else None. model: the discrete flow in the field's place, else None. words: how run= names it.
    """

    words: dict[str, Any]
    field: Field | None
    dataset: Dataset | None
    origin: str
    precision: str | None = None
    folder: Path | None = None
    source: Dataset | None = None
    model: DiscreteFlow | None = None

    def __repr__(self) -> str:
        return f"Run: {self.origin}"

    def named(self) -> dict[str, Any]:
        """The words by which the command line names the run."""
        return dict(self.words)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of a point."""
        return self._known.shape

    @property
    def classes(self) -> int:
        """Number of labels; 0 for an unconditional field."""
        return self._known.classes

    @cached_property
    def scaling(self) -> Scaling | None:
        """The map from the model's units to the data's own; None where they are the same."""
        return None if self.dataset is None else self.dataset.scaling(self._known.shape)

    @property
    def _known(self) -> Field | DiscreteFlow:
        """The field, or the discrete flow."""
        return self.model or self._field

    @property
    def _field(self) -> Field:
        if self.model is not None:
            raise UserError(
                f"{self.origin} is a discrete flow, which has no field: no velocity, score, E[z|x] or time; it has sample and log_prob"
            )
        if self.field is None:
            raise UserError(f"{self.origin} is a classifier, which has no field; its folder is for guide=")
        return self.field

    @refusals
    def velocity(self, x: Points, t: Points, labels: Points = None) -> np.ndarray:
        """u_t(x) = dalpha E[z|x] + dbeta E[eps|x], by which points move: dx/dt = u_t(x); between two laws dalpha E[z|x] + dbeta
        E[y|x] + dgamma E[eps|x].

        >>> import diffsde
        >>> diffsde.oracle(dataset="gmm", path="ot").velocity([[0.0, 0.0]], 0.5).shape
        (1, 2)
        """
        return self._scaled(self._at("velocity", x, t, labels), "std")

    @refusals
    def score(self, x: Points, t: Points, labels: Points = None) -> np.ndarray:
        """grad log p_t(x). Of a coordinate that is constant in the data, which has no density, the model's own."""
        self._refuse_jumping("score")
        if not self._field.follows_path:
            raise UserError(f"score: {VELOCITY_ALONE}")
        if not self._field.knows_score:
            raise UserError(
                "score: the velocity alone does not give it between two laws; train with path=bridge objective=cfm+score"
            )
        return self._scaled(self._at("score", x, t, labels), "1/std")

    @refusals
    def data(self, x: Points, t: Points, labels: Points = None) -> np.ndarray:
        """E[z | x_t = x], the denoised point."""
        self._refuse_unknown("data")
        return to_own(self.scaling, self._at("data", x, t, labels))

    @refusals
    def noise(self, x: Points, t: Points, labels: Points = None) -> np.ndarray:
        """E[eps | x_t = x]; eps is standard normal, whatever the data's units."""
        self._refuse_unknown("noise")
        return self._at("noise", x, t, labels)

    @refusals
    def jump(self, x: Points, s: Points, t: Points, labels: Points = None) -> np.ndarray:
        """X_{s,t}(x): where the ODE takes x from time s to time t, of the exact field and of flow maps (objective=meanflow, ...).

        >>> import diffsde
        >>> exact = diffsde.oracle(dataset={"name": "mixture", "means": [[0.0]], "stds": [2.0]}, path="ot")
        >>> exact.jump([[1.0]], 0, 1)
        array([[2.]], dtype=float32)
        """
        field = self._field
        if not field.jumps:
            raise UserError(
                "jump: this field knows its velocity alone; train a flow map (objective=meanflow, ...), or take the exact field"
            )
        points, until, known, single = self._arguments(x, t, labels)
        begin = self._arguments(x, s, labels)[1]
        if not field.knows_velocity and (until != 1).any():
            raise UserError(f"jump: this model has learnt jumps to t = 1 alone; t is {until[until != 1][0]:g}")
        with self._precision():
            start, end = jnp.asarray(begin, kept()), jnp.asarray(until, kept())
            ends = jumps_at(field, to_model(self.scaling, points), start, end, known)
        found = to_own(self.scaling, np.asarray(ends))
        return found[0] if single else found

    @refusals
    def divergence(self, x: Points, t: Points, labels: Points = None) -> np.ndarray:
        """div u_t(x), exactly, by a derivative per coordinate; () per point."""
        return self._at("divergence", x, t, labels)

    @refusals
    def log_prob(self, x: Points, t: Points = 1.0, labels: Points = None, steps: int = STEPS) -> np.ndarray:
        """log p_t(x) in nats, () per point: in closed form where the field is exact, else by the probability-flow ODE.

        The ODE is solved by RK4 in `steps` steps, spaced as t^2 (evaluate's solver_grid=quadratic); its divergence is exact for
        up to 16 coordinates, else Hutchinson's estimate with a fixed probe per point. A discrete flow needs no ODE: t and steps are
        left out.
        """
        if self.model is not None:
            return self._of_flow(self.model, x, t, labels, steps)
        field = self._field
        if (scaling := self.scaling) is not None and not scaling.std.all():
            raise UserError("log_prob: a coordinate of the data is constant, and has no density")
        if isinstance(field, OracleField | EmpiricalField | OracleInterpolant):
            if isinstance(field, EmpiricalField) and not all(float(field.path.beta(at)) for at in np.unique(t)):
                raise UserError("log_prob: finite data without noise are points, which have no density; take t below 1")
            found = self._at("log_prob", x, t, labels)
        else:
            found = self._by_ode(field, x, t, labels, steps)
        return np.asarray(found - np.asarray(log_volume(self.scaling, field.shape), found.dtype))

    def _of_flow(self, flow: DiscreteFlow, x: Points, t: Points, labels: Points, steps: int) -> np.ndarray:
        """log p(x) of a discrete flow."""
        if np.ndim(t) or t != 1 or steps != STEPS:
            raise UserError("log_prob: a discrete flow has neither times nor steps; leave t and steps out")
        points, _, known, single = self._arguments(x, t, labels)
        with self._precision():
            z = jnp.asarray(to_model(self.scaling, points).astype(kept()))
            found = np.asarray(log_probs(flow, z, None if known is None else jnp.asarray(known)))
        found = found - np.asarray(log_volume(self.scaling, flow.shape), found.dtype)
        return found[0] if single else found

    @refusals
    def sample(
        self, *, x0: Points = None, folder: str | Path | None = None, verbose: bool = False, **words: Any
    ) -> Findings:
        """Draw samples: `diffsde sample` with these words (sampler, sigma, n, steps, seed, grid, labels, guidance, ...).

        x0: starting states (n, *shape) at the grid's first time, as they are; None: drawn as the command draws them. folder: where
        to write what the command writes; None: no file. save_every= keeps a trajectory.

        >>> import diffsde
        >>> drawn = diffsde.oracle(dataset="gmm", path="ot").sample(sampler="em", sigma=0.5, n=20, steps=4, seed=1)
        >>> drawn.x.shape, sorted(drawn.figures)[0]
        ((20, 2), 'cross_entropy')
        """
        refuse_field_words(words)
        if x0 is None:
            return running.run_verb("sample", {**self.words, **words}, folder, verbose)
        if self.model is not None:
            raise UserError("x0: a discrete flow starts from its own noise, and not from points; leave it out")
        own = points_of(x0, self.shape, "x0")
        if bad := int((~np.isfinite(own)).reshape(len(own), -1).any(axis=1).sum()):
            raise UserError(f"x0: {bad} of {len(own)} points are NaN or infinite; give finite ones")
        if words.get("n") not in (None, len(own)):
            raise UserError(f"n is {words['n']}, but x0 has {len(own)} points; leave out n")
        if folder is not None:
            raise UserError("folder: a folder's config cannot name the points of x0; leave out one of them")

        def begin_there(job: Any) -> None:
            job.x0 = jax.device_put(to_model(self.scaling, own).astype(job.x0.dtype))

        return running.run_verb("sample", {**self.words, **words, "n": len(own)}, None, verbose, begin_there)

    @cached_property
    def summary(self) -> dict[str, Any]:
        """The summary.json of a trained run; {} for an exact field."""
        return {} if self.folder is None else files.parsed_of_user(self.folder / "summary.json", shapes.SUMMARY) or {}

    @cached_property
    def losses(self) -> np.ndarray:
        """The mean losses of a trained run, one per line of its log; (0,) for an exact field."""
        if self.folder is None:
            return np.zeros(0)
        return read_log(self.folder / "metrics.jsonl").column("loss")

    def _at(self, what: str, x: Points, t: Points, labels: Points) -> np.ndarray:
        """A quantity in the model's units at points in the data's own."""
        self._refuse_jumping(what)
        points, at, known, single = self._arguments(x, t, labels)
        with self._precision():
            found = np.asarray(PROGRAMS[what](self._field, to_model(self.scaling, points), at.astype(kept()), known))[
                : len(points)
            ]
        if what != "log_prob" and not np.isfinite(found).all() and np.isfinite(points).all():
            when = at[~np.isfinite(found).reshape(len(found), -1).all(axis=1)][0]
            raise UserError(
                f"{what}: it is not a finite number at t={when:g}; take another t, e.g. {0.01 if when < 0.5 else 0.99}"
            )
        return found[0] if single else found

    def _by_ode(self, field: Field, x: Points, t: Points, labels: Points, steps: int) -> np.ndarray:
        self._refuse_jumping("log_prob")
        points, at, known, single = self._arguments(x, t, labels)
        found = np.zeros(len(points), np.float64)
        with self._precision():
            law = None if self.source is None else density_of(self.source)
            if self.source is not None and law is None:
                raise UserError(f"log_prob: the ODE ends in source={name_of(self.source)}, whose density is not known")
            for time in np.unique(at):
                mine = at == time
                if time == 0:
                    found[mine] = log_prior(field, to_model(self.scaling, points[mine]), law)
                    continue
                label = None if known is None else jnp.asarray(known[mine][0])
                grid = dataclasses.replace(GRIDS["quadratic"](), end=float(time))  # type: ignore[type-var]
                grid = likelihood.choose_end(bound(field, label), grid)
                z, probe = to_model(self.scaling, points[mine]), likelihood.choose_probe("auto", field.shape)
                rest = None if known is None else jnp.asarray(known[mine])
                found[mine] = likelihood.log_likelihood_compiled(
                    RK4(),
                    field,
                    jnp.asarray(z),
                    times(grid, steps, field.path),
                    jax.random.key(0),
                    rest,
                    source=law,
                    probe=probe,
                ).log_p
        return found[0] if single else found

    def _arguments(
        self, x: Points, t: Points, labels: Points
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, bool]:
        """Points (n, *shape), times (n,) and labels (n,), and whether x is a single point. Raises UserError."""
        field = self._known
        points = points_of(x, field.shape, "x")
        n = len(points)
        try:
            given = np.asarray(t, np.float64)
        except (TypeError, ValueError):
            raise UserError(f"t is {t!r}; it must be numbers in [0, 1]") from None
        at = each_of(given, n, "t")
        if not ((at >= 0) & (at <= 1)).all():
            raise UserError(f"t is {at[~((at >= 0) & (at <= 1))][0]:g}; it must be in [0, 1], 0 noise and 1 data")
        if labels is None:
            return points, at, None, np.ndim(x) == len(field.shape)
        if not field.classes:
            raise UserError("labels: this field knows none")
        known = each_of(np.asarray(labels), n, "labels").astype(np.int32)
        if ((known < 0) | (known >= field.classes)).any():
            raise UserError(f"labels: they are 0 to {field.classes - 1} for this field")
        return points, at, known, np.ndim(x) == len(field.shape)

    def _refuse_jumping(self, what: str) -> None:
        if not self._field.knows_velocity:
            raise UserError(f"{what}: {ENDS_ALONE}; it has jump(x, s, 1) and sample(sampler='flow_map')")

    def _refuse_unknown(self, what: str) -> None:
        self._refuse_jumping(what)
        if not self._field.follows_path:
            raise UserError(f"{what}: {VELOCITY_ALONE}")
        if not self._field.knows_data:
            raise UserError(f"{what}: on a path with noise on the way the velocity alone does not give it")

    def _scaled(self, values: np.ndarray, how: str) -> np.ndarray:
        if self.scaling is None:
            return values
        factor = self.scaling.std if how == "std" else 1 / self.scaling.divisor
        return np.asarray(values * factor, values.dtype)

    @contextmanager
    def _precision(self) -> Iterator[None]:
        """JAX in the precision of the run, for the length of a call."""
        with jax.enable_x64(self.precision == "float64"):
            yield


def refuse_field_words(words: dict[str, Any]) -> None:
    """Refuse, among the words of a call on a Run, those that would name another field. Raises UserError."""
    if named := [f"{key}=" for key in ("run", "dataset", "source", "path", "direction") if key in words]:
        turned = ", e.g. diffsde.oracle(..., direction='backward').sample()" if "direction" in words else " of it"
        raise UserError(
            f"{' and '.join(named)} would name another field than this Run's; take diffsde.load or diffsde.oracle{turned}"
        )


def points_of(x: Points, shape: tuple[int, ...], name: str) -> np.ndarray:
    """Points (n, *shape), in the type they come in. Raises UserError for another shape."""
    points = np.asarray(x)
    if points.dtype.kind not in "fiub":
        raise UserError(f"{name} is of type {points.dtype}; it must be numbers")
    points = points[None] if points.shape == shape else points
    if points.shape[1:] != shape or points.ndim != len(shape) + 1 or not len(points):
        wanted = "".join(f", {size}" for size in shape)
        raise UserError(f"{name} has shape {np.shape(x)}; give (n{wanted}) or one point {shape}")
    return points if points.dtype.kind == "f" else points.astype(np.float64)


def log_prior(field: Field, x: np.ndarray, source: Mixture | None) -> np.ndarray:
    """log N(x; 0, beta^2 I) (n,) at t = 0, where no ODE is left to be solved, for points x (n, *shape) in the model's units; from a
    source the density of its points, with the noise that the path adds.
    """
    if source is not None:
        law = likelihood.starting_law(source, field.path, 0.0)
        return np.asarray(jax.vmap(partial(mixtures.log_prob, law))(jnp.asarray(x.reshape(len(x), -1))))
    beta, squares = float(field.path.beta(0.0)), (x.reshape(len(x), -1) ** 2).sum(axis=1)
    return -squares / (2 * beta**2) - math.prod(field.shape) * math.log(beta * math.sqrt(2 * math.pi))


def each_of(values: np.ndarray, n: int, name: str) -> np.ndarray:
    """Values (n,) of () or (n,). Raises UserError for another shape."""
    if values.shape not in ((), (n,)):
        raise UserError(f"{name} has shape {values.shape}; give () or ({n},), as many as x has points")
    return np.broadcast_to(values, (n,))


def kept() -> type:
    """The type that programs take now."""
    return np.float64 if jax.config.read("jax_enable_x64") else np.float32


def at_points(one: Callable[[Field, Array, Scalar], Scalar]) -> Callable[..., Array]:
    """A function of a field at one point and time, compiled for many, some at a time."""

    @jax.jit
    def program(field: Field, x: Array, t: Array, labels: Array | None) -> Array:
        def at(given: tuple[Array, Array, Array | None]) -> Scalar:
            point, time, label = given
            return one(bound(field, label), point, time)

        return jax.lax.map(at, (x, t, labels), batch_size=min(len(x), MANY))

    return program


@jax.jit
def jumps_at(field: Any, x: Array, s: Array, t: Array, labels: Array | None) -> Array:
    """Where a flow map takes points x (n, *shape) from times s to t, both (n,), compiled, some points at a time."""

    def at(given: tuple[Array, Array, Array, Array | None]) -> Array:
        point, begin, until, label = given
        return bound(field, label).jump(point, begin, until)

    return jax.lax.map(at, (x, s, t, labels), batch_size=min(len(x), MANY))


MANY = 1024  # points at once
PROGRAMS = {
    **{
        name: at_points(lambda field, x, t, name=name: getattr(field, name)(x, t))  # type: ignore[misc]
        for name in ("velocity", "score", "data", "noise", "log_prob")
    },
    "divergence": at_points(divergence),
}


@refusals
def load(run: str | Path = "latest", *, verbose: bool = False, **words: Any) -> Run:
    """A trained run: "latest", its folder, its id or name, or a filter such as "path=ot" that one run fits. words: which of its fields, as the command line has them: checkpoint, ema,
    guidance with labels or guide, precision.

    >>> import diffsde, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = diffsde.train(dataset="moons", steps=2, log_every=1, folder=folder + "/run")
    ...     diffsde.load(folder + "/run").shape
    (2,)
    """
    if str(run) == "oracle":
        return oracle(verbose=verbose, **words)
    return restored_run(str(run), verbose, **words)


@refusals
def oracle(*, verbose: bool = False, **words: Any) -> Run:
    """The exact field of data on a path: dataset= a mixture or finite data, path= any; between two mixtures with source= too.

    >>> import diffsde
    >>> exact = diffsde.oracle(dataset={"name": "mixture", "means": [[0.0]], "stds": [2.0]}, path="ot")
    >>> exact.log_prob([[0.0]]).round(3)
    array([-1.612], dtype=float32)
    """
    return restored_run("oracle", verbose, **words)


def restored_run(run: str | Path, verbose: bool = False, **words: Any) -> Run:
    """The run that run= and other words of `sample` name. Raises UserError."""
    with running.session(verbose):
        config, settings = resolve_latest(running.configured("sample", {**words, "run": run}))
        machine.configure_process(settings)
        chosen = sample_choices(config)
        exact = config["run"] == "oracle"
        folder = None if exact else Path(config["run"])
        given = {**words, "run": config["run"]}
        if names_flow(chosen.run):
            flow, dataset, origin = load_flow(chosen)
            return Run(given, None, dataset, origin, settings["precision"], folder, model=flow)
        found = load_field(chosen)
        return Run(given, found.field, found.dataset, found.origin, settings["precision"], folder, found.source)


def classifier_run(folder: Path) -> Run:
    """The run of a classifier, which has no field."""
    return Run({"run": str(folder)}, None, None, str(folder), None, folder)
