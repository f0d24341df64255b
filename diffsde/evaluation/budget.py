"""The metric `budget`: what of the samples' error is the network's, what the steps', and what the number of samples'."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffsde.evaluation.field_error import END, FieldErrors, field_errors
from diffsde.evaluation.metric import Drawing, Measured, Metric, Quantity, Subject
from diffsde.fields import Field, OracleField
from diffsde.interpolants import Backward, OracleInterpolant
from diffsde.metrics.figures import Figure, mean_figure, rms_distance
from diffsde.metrics.mixture import mixture_values
from diffsde.mixtures import entropy
from diffsde.samplers import LoopSettings, Sampler, simulate_compiled, times
from diffsde.samplers.ode import RK4
from diffsde.types import Array, Key

FINE = 256  # steps of RK4 that stand for a solution without error
FINER = 4  # times as many steps of a sampler with noise
MOST, NUMBERS = 4000, 2**21  # samples that are solved for again, and numbers in them


class Ends(NamedTuple):
    """Where the same noise ends, each (m, *shape): by the sampler; by the same field with next to no error of the steps; and by
    the exact field; None where that is not known. The same two of the exact field in as many steps as the sampler takes; and
    as `fine`, which for a sampler with noise is not without error of the steps.
    """

    sampled: np.ndarray
    fine: np.ndarray
    exact: np.ndarray | None
    exact_sampled: np.ndarray | None
    exact_fine: np.ndarray | None


@dataclasses.dataclass(frozen=True)
class Budget(Metric):
    """Where the error of samples comes from. With a known law p, whose field u is exact:

    field_error: E|u_theta - u|^2 per coordinate, the mean over t: the loss above its floor. kl_bound: of the memoryless SDE with this
    network, solved exactly, KL(p | p_theta) at t = 0.999 is at most that (Girsanov; equal to it where the network is the exact field of
    another law). It bounds no ODE. cross_entropy - entropy of the samples is the sum of three, from the same noise: sampling_gap,
    which the exact ODE's ends have by chance; network_gap, what the network changes; discretisation_gap, what the steps change.
    Between two laws there is no kl_bound. Without a known law: discretisation_rms alone, the root-mean-square distance by which the steps move a sample of an ODE (or of an SDE with
    coupled=true); beside it that of the exact field.
    """

    quantities: ClassVar[dict[str, Quantity]] = {
        "field_error": Quantity("", "lower"),
        "kl_bound": Quantity("nats", "lower"),
        "network_gap": Quantity("nats", "target"),
        "discretisation_gap": Quantity("nats", "target"),
        "sampling_gap": Quantity("nats", "target"),
        "discretisation_rms": Quantity("in the data's units", "lower", "with each coordinate in units of its std"),
    }
    needs: ClassVar[tuple[str, ...]] = ("field", "samples", "sampler")

    def is_default(self, subject: Subject) -> bool:
        return False

    def unavailable(self, subject: Subject) -> str | None:
        if why := super().unavailable(subject):
            return why
        drawing = subject.drawing
        assert drawing is not None
        if drawing.sampler.jumps and drawing.sampler.stochastic:
            return "jumps with fresh noise solve no equation that finer steps would; take sampler=flow_map"
        if drawing.sampler.stochastic and not drawing.coupled and subject.exact is None:
            return "the law is not known, and two runs of an SDE are compared one by one only with coupled=true"
        return None

    def measure(self, subject: Subject, key: Key) -> Measured:
        drawing, exact = subject.drawing, subject.exact
        assert drawing is not None and subject.field is not None
        ends = solved(subject, drawing, exact)
        figures: dict[str, Figure] = {}
        rows: list[tuple[str, str]] = []
        arrays = {}
        if exact is not None:
            errors = field_errors(
                subject.field, exact, subject.dataset, subject.field_labels, key, source=subject.source
            )
            figures = {name: each.against_exact(0.0) for name, each in of_field(errors).items()}
            figures |= gaps(subject, ends)
            subject.kept["field_errors"] = errors
            rows = by_time(errors)
            arrays = {"budget": {name: each for name, each in errors._asdict().items() if isinstance(each, np.ndarray)}}
        if not drawing.sampler.stochastic or drawing.coupled:
            figures["discretisation_rms"] = apart(ends)
        return Measured(figures, {"budget": {"n": len(ends.sampled), "end": END}}, tuple(rows), arrays)


def of_field(errors: FieldErrors) -> dict[str, Figure]:
    bound_on = errors.kl_bound()
    return {"field_error": errors.field_error(), **({} if bound_on is None else {"kl_bound": bound_on})}


def in_short(subject: Subject, key: Key) -> dict[str, Figure]:
    """field_error and kl_bound of a network's field from 1,000 points; {} where the law is not known or the field is exact."""
    exact = subject.exact
    field = subject.field.forward if isinstance(subject.field, Backward) else subject.field
    if exact is None or isinstance(field, OracleField | OracleInterpolant) or subject.labels is not None:
        return {}
    assert subject.field is not None
    if not subject.field.knows_velocity:
        return {}
    found = of_field(field_errors(subject.field, exact, subject.dataset, None, key, 50, subject.source))
    return {name: figure.against_exact(0.0) for name, figure in found.items()}


def by_time(errors: FieldErrors) -> list[tuple[str, str]]:
    """A row that says where in t the field's error and its share of the bound lie."""

    def half(rates: np.ndarray) -> str:
        whole = np.cumsum(rates)
        return f"{errors.t[int(np.searchsorted(whole, whole[-1] / 2))]:.2f}"

    if not errors.velocity.any():
        return [("error by t", "none: the field is the exact one")]
    if errors.kl_rate is None:
        return [("error by t", f"half of field error before t={half(errors.velocity)}")]
    return [
        (
            "error by t",
            f"half of field error before t={half(errors.velocity)}, of kl bound before t={half(errors.kl_rate)}",
        ),
        ("", f"kl bound is of the SDE with sigma_t^2 = 2 eta and this network, up to t={END}; it bounds no ODE"),
    ]


def solved(subject: Subject, drawing: Drawing, exact: Field | None) -> Ends:
    """The samples, and where the same noise ends without the steps' error, and without the network's."""
    assert subject.field is not None
    x = subject.samples
    m = min(len(x), MOST, max(2, NUMBERS // x[0].size))
    at = np.asarray(times(drawing.grid, drawing.steps, subject.field.path))

    def end(field: Field, sampler: Sampler, steps: int) -> np.ndarray:
        x0, condition = drawing.x0[:m], jax.tree.map(lambda leaf: leaf[:m], drawing.condition)
        settings = LoopSettings(drawing.last, drawing.coupled and sampler.stochastic)
        return np.asarray(
            simulate_compiled(sampler, field, x0, refined(at, steps), drawing.key, condition, settings=settings).x
        )

    sampler, ode = drawing.sampler, RK4()
    more = FINER if sampler.stochastic else math.ceil(FINE / drawing.steps)
    fine = end(subject.field, sampler if sampler.stochastic else ode, more)
    if exact is None:
        return Ends(x[:m], fine, None, None, None)
    best = end(exact, ode, math.ceil(FINE / drawing.steps))
    if sampler.stochastic:
        return Ends(x[:m], fine, best, None, end(exact, sampler, more))
    return Ends(x[:m], fine, best, end(exact, sampler, 1), best)


def refined(at: np.ndarray, times_as_many: int) -> Array:
    """A grid with each of its steps cut into so many equal ones."""
    places = np.arange(times_as_many * (len(at) - 1) + 1) / times_as_many
    return jnp.asarray(np.interp(places, np.arange(len(at)), at).astype(at.dtype))


def gaps(subject: Subject, ends: Ends) -> dict[str, Figure]:
    """The three parts of cross_entropy - entropy, each a mean of differences of -log p between ends of the same noise. What error
    of the steps is left in the exact field's fine solution counts as the steps', not as the network's.
    """
    mixture = subject.dataset.law(subject.labels)
    assert mixture is not None and ends.exact is not None and ends.exact_fine is not None
    sampled, fine, exact, exact_fine = (
        -np.asarray(mixture_values(mixture, jnp.asarray(each)).log_p, np.float64)
        for each in (ends.sampled, ends.fine, ends.exact, ends.exact_fine)
    )
    known = entropy(mixture)
    chance = mean_figure(exact - known.value)
    return {
        "network_gap": mean_figure(fine - exact_fine).against_exact(0.0),
        "discretisation_gap": mean_figure(sampled - fine + exact_fine - exact).against_exact(0.0),
        "sampling_gap": chance._replace(error=math.hypot(chance.error or 0.0, known.error)).against_exact(0.0),
    }


def apart(ends: Ends) -> Figure:
    """discretisation_rms, beside that of the exact field in as many steps."""
    found = rms_distance(ends.sampled, ends.fine)
    if ends.exact is None or ends.exact_sampled is None:
        return found
    return found.against("field", rms_distance(ends.exact_sampled, ends.exact))
