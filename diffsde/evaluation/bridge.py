"""The metric `bridge`: samples of a bridge between two Gaussians beside the Schroedinger bridge's closed form."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

import numpy as np

from diffsde import mixtures, schroedinger
from diffsde.datasets import Dataset
from diffsde.datasets.fixed import FixedPoints
from diffsde.evaluation.metric import Measured, Metric, Quantity, Subject
from diffsde.interpolants import Backward
from diffsde.metrics.figures import Figure
from diffsde.mixtures import Mixture
from diffsde.samplers import LoopSettings, simulate_compiled, times
from diffsde.samplers.diffusions import Constant
from diffsde.samplers.loop import Saving
from diffsde.samplers.sde import EulerMaruyama
from diffsde.schroedinger import Gaussian, GaussianBridge
from diffsde.types import Key

SAVED = 12  # times of the paths at which points are kept, about
GROUPS = 20  # of the samples, of which each is left out in turn for an error


@dataclasses.dataclass(frozen=True)
class BridgeFit(Metric):
    """How near simulated paths come to the Schroedinger bridge between two Gaussians, which is known (2202.05722).

    bridge_kl = KL(N(m, S) || p_1), m and S of the samples; bridge_kl_between, the same at t = 1/4, 1/2 and 3/4, on average;
    cross_covariance_error = |S_01 - Cov(X_0, X_1)|/d, S_01 that of starting points and samples, in the Frobenius norm. Beside each
    what as many points of the true bridge have on average. Of the SDE with the bridge's own sigma, forward in time.
    """

    quantities: ClassVar[dict[str, Quantity]] = {
        "bridge_kl": Quantity("nats", "lower"),
        "bridge_kl_between": Quantity("nats", "lower"),
        "cross_covariance_error": Quantity(
            "in squares of the data's units", "lower", "with each coordinate in units of its std"
        ),
    }
    needs: ClassVar[tuple[str, ...]] = ("field", "samples", "sampler")

    def is_default(self, subject: Subject) -> bool:
        return False

    def unavailable(self, subject: Subject) -> str | None:
        if why := super().unavailable(subject):
            return why
        assert subject.field is not None and subject.drawing is not None
        if not (sigma := subject.field.path.reference_sigma):
            return "the path is not the bridge of a Brownian motion (path=bridge)"
        if isinstance(subject.field, Backward):
            return "it is of samples forward in time (direction=forward)"
        for name, each in (("source", subject.source), ("data", subject.dataset)):
            law = None if each is None else law_of(each)
            if law is None or len(law.weights) > 1:
                return f"the {name} is not one Gaussian, between which alone the bridge is known"
        sampler = subject.drawing.sampler
        diffusion = sampler.diffusion if isinstance(sampler, EulerMaruyama) else None
        if not isinstance(diffusion, Constant) or not math.isclose(float(diffusion.sigma), float(sigma), rel_tol=1e-6):
            return f"the samples are not of the bridge's own SDE; take sampler=em sigma={float(sigma):g}"
        return None

    def measure(self, subject: Subject, key: Key) -> Measured:
        assert subject.field is not None and subject.drawing is not None and subject.source is not None
        sampler, grid, steps, last, coupled, x0, key_path, condition = subject.drawing
        known, at = bridge_of(subject), times(grid, steps, subject.field.path)
        settings = LoopSettings(last, coupled, Saving(max(1, steps // SAVED)))
        drawn = simulate_compiled(sampler, subject.field, x0, at, key_path, condition, None, settings).trajectory
        assert drawn is not None
        n, d = len(x0), known.cross.shape[0]
        paths = np.asarray(drawn.x, np.float64).reshape(-1, n, d)
        saved = np.asarray(drawn.times, np.float64)
        inside = [int(np.argmin(np.abs(saved - quarter / 4))) for quarter in (1, 2, 3)]
        kls = {i: kl_figure(paths[i], schroedinger.marginal(known, saved[i])) for i in (*inside, -1)}
        between = Figure(
            float(np.mean([kls[i].value for i in inside])),
            float(np.mean([kls[i].error or 0.0 for i in inside])),  # the three are of the same paths
        )
        floor = Figure(d * (d + 3) / (4 * n))
        figures = {
            "bridge_kl": kls[-1].against("floor", floor),
            "bridge_kl_between": between.against("floor", floor),
            "cross_covariance_error": cross_figure(paths[0], paths[-1], known),
        }
        return Measured(figures, {"bridge": {"n": n, "steps": steps, "times": saved[inside].tolist()}})


def bridge_of(subject: Subject) -> GaussianBridge:
    """The Schroedinger bridge between the subject's laws."""
    assert subject.field is not None and subject.source is not None
    laws = law_of(subject.source), law_of(subject.dataset)
    start, end = (gaussian(law) for law in laws if law is not None)
    return schroedinger.bridge(start, end, float(subject.field.path.reference_sigma or 0.0))


def law_of(dataset: Dataset) -> Mixture | None:
    """The law of a dataset, or of that from which its fixed points are drawn; None where it is not known."""
    return dataset.drawn_from.law() if isinstance(dataset, FixedPoints) else dataset.law()


def gaussian(law: Mixture) -> Gaussian:
    """A mixture's one component."""
    return Gaussian(np.asarray(law.means[0], np.float64), np.asarray(mixtures.covariances(law)[0], np.float64))


def kl_figure(points: np.ndarray, law: Gaussian) -> Figure:
    """KL(N(m, S) || law) of points (n, d), and its error: 2 n KL is chi^2 of k = d (d + 3)/2 degrees of freedom where the points
    are of the law, off centre by 2 n times the KL of theirs, which adds to its variance.
    """
    (n, d), value = points.shape, schroedinger.kl(schroedinger.fitted(points), law)
    k = d * (d + 3) / 2
    off = max(2 * n * value - k, 0.0)
    return Figure(value, math.sqrt(2 * k + 4 * off) / (2 * n))


def cross_figure(begin: np.ndarray, end: np.ndarray, known: GaussianBridge) -> Figure:
    """cross_covariance_error of pairs (n, d) and (n, d), its error by leaving out groups, and what true pairs have."""
    n, d = begin.shape

    def apart(keep: np.ndarray) -> float:
        x, y = begin[keep] - begin[keep].mean(axis=0), end[keep] - end[keep].mean(axis=0)
        return float(np.linalg.norm(x.T @ y / len(x) - known.cross)) / d

    groups = np.arange(n) % GROUPS
    left_out = np.array([apart(groups != group) for group in range(GROUPS)])
    error = math.sqrt((GROUPS - 1) / GROUPS * np.sum((left_out - left_out.mean()) ** 2))
    spread = np.trace(known.start.covariance) * np.trace(known.end.covariance) + np.sum(known.cross**2)
    return Figure(apart(np.ones(n, bool)), error, points=n).against("floor", Figure(math.sqrt(spread / n) / d))
