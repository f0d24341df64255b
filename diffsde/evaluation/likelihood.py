"""The metric `likelihood`: -log p of points that a field was not trained on."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from diffsde import likelihood
from diffsde.build import name_of
from diffsde.continuous_flow import ContinuousFlow
from diffsde.datasets.normal import density_of
from diffsde.datasets.scaling import Scaling
from diffsde.discrete_flow import DiscreteFlow
from diffsde.errors import UserError
from diffsde.evaluation import densities
from diffsde.evaluation.densities import Solving, TestPoints
from diffsde.evaluation.flow_densities import flow_figures
from diffsde.evaluation.metric import Measured, Metric, Quantity, Subject
from diffsde.fields import EmpiricalField, Field, LearnedField, bound
from diffsde.guidance import Guided
from diffsde.runs import progress, sizes
from diffsde.runs.starting import standing_in, stds_of
from diffsde.samplers import GRIDS, Sampler
from diffsde.samplers.adaptive import Adaptive
from diffsde.types import Key

RAW = "the run was trained on bytes as they are, whose density has no bound; train with dataset.dequantise=true"


@dataclasses.dataclass(frozen=True)
class Likelihood(Metric):
    """-log p of points that the field was not trained on, by its probability-flow ODE (1806.07366; 2011.13456, eq. 39).

    bits_per_dim for images in bytes; else nll, in nats and the data's own units, and if the law p is known also
    kl = E_p[log p - log p_theta]. Of a discrete flow by the change of variables, without an ODE. The fields are knobs of configs/evaluate.yaml, which documents each.
    """

    quantities: ClassVar[dict[str, Quantity]] = {
        "bits_per_dim": Quantity("bits per dimension", "lower"),
        "nll": Quantity("nats", "lower"),
        "kl": Quantity("nats", "lower"),
    }
    needs: ClassVar[tuple[str, ...]] = ("density",)

    n_test: int | None = None
    solver: str = "rk4"
    solver_steps: int | None = None
    solver_grid: str = "quadratic"
    tolerance: float | None = None
    probe: str = "auto"
    dequantisations: int = 1

    def check(self) -> None:
        """Raise ValueError where `tolerance` is given for a solver other than adaptive."""
        if self.tolerance is not None and self.solver != "adaptive":
            raise ValueError(f"tolerance is {self.tolerance}, which is of solver=adaptive alone")

    def solving(self, subject: Subject) -> Solving:
        """How the subject's ODE is solved. Raises UserError where the field's velocity is infinite at an end of the ODE."""
        assert subject.field is not None
        solver: Sampler = likelihood.SOLVERS[self.solver]()
        if self.tolerance is not None:
            solver = Adaptive(rtol=self.tolerance, atol=self.tolerance)
        steps = self.solver_steps or (1 if solver.adaptive else 50)
        label = None if subject.field_labels is None else jnp.asarray(subject.field_labels[0])
        grid = likelihood.choose_end(bound(subject.field, label), GRIDS[self.solver_grid]())
        return Solving(solver, grid, steps, likelihood.choose_probe(self.probe, subject.field.shape))

    def unavailable(self, subject: Subject) -> str | None:
        if why := super().unavailable(subject) or without_density(subject):
            return why
        if untouched(subject) and "likelihood" not in subject.named:
            return f"{RAW}; metrics=[likelihood] measures it all the same"
        self.refuse(subject)
        if subject.model is not None:
            return None
        try:
            self.solving(subject)
        except UserError as error:
            return str(error).removeprefix("likelihood: ")
        return None

    def refuse(self, subject: Subject) -> None:
        """Raise UserError for `n_test` or `dequantisations` that do not fit the dataset."""
        dataset = subject.dataset
        if dataset.count_points(dataset.load()) is not None:
            densities.of_test(dataset, self.n_test, subject.field_labels)
        elif self.n_test is not None:
            sizes.require_samples(self.n_test, subject.shape, "n_test")
        if self.dequantisations > 1 and not subject.in_bytes:
            raise UserError(
                f"dequantisations is {self.dequantisations}, but the data are no images in bytes; leave it at 1"
            )

    def prepare(self, subject: Subject) -> None:
        if untouched(subject):
            progress.warn(f"likelihood: {RAW}")
        if subject.field is None:
            return
        path = standing_in(subject.field, subject.source)
        stds = stds_of(subject.dataset) if subject.field.follows_path else ()
        if wrong := densities.solver_warning(self.solving(subject), path, stds):
            progress.warn(wrong)

    def measure(self, subject: Subject, key: Key) -> Measured:
        """The figures; as arrays, log_p (n,) of every test point and the points x, in the data's own units."""
        key_points, key_solve = jax.random.split(key)
        points = densities.test_points(subject.dataset, self.n_test, subject.field_labels, key_points)
        scaling = subject.dataset.scaling(subject.shape)
        if subject.model is not None:
            return self._of_flow(subject.model, points, key_solve, scaling)
        field, how = subject.field, self.solving(subject)
        assert field is not None
        law = None if subject.source is None else density_of(subject.source)
        found, about, log_p = densities.likelihood_figures(
            field, points, how, self.dequantisations, key_solve, scaling, law
        )
        if subject.guided:  # whose law is another than the data's
            found = {name: figure.alone() for name, figure in found.items()}
        solver = name_of(how.solver)
        text = f"{about['n']:,} test points, {solver}, {about['nfe']:.0f} evaluations, divergence: {about['probe']}"
        repeats = f", {about['dequantisations']} dequantisation(s)" if points.bytes else ""
        rows = [("likelihood", f"{text}{repeats}, {about['seconds']:.1f} s")]
        if "change" in about:
            name, unit = next(iter(found)).replace("_", " "), "bits" if points.bytes else "nats"
            finer = "ten times the tolerance to this" if how.solver.adaptive else "half as many steps to these"
            rows.append(("", f"{about['change']:+.2g} {unit} in {name}, from {finer}; a part of the error"))
        about |= {"solver": solver, "given_labels": points.labels is not None}
        return Measured(
            found, {"likelihood": about}, tuple(rows), {"likelihood": {"log_p": log_p, "x": points.own(scaling)}}
        )

    def _of_flow(self, flow: DiscreteFlow, points: TestPoints, key: Key, scaling: Scaling | None) -> Measured:
        found, about, log_p = flow_figures(flow, points, self.dequantisations, key, scaling)
        repeats = f", {about['dequantisations']} dequantisation(s)" if points.bytes else ""
        rows = (("likelihood", f"{about['n']:,} test points, one pass each{repeats}, {about['seconds']:.2g} s"),)
        about |= {"given_labels": points.labels is not None}
        arrays = {"likelihood": {"log_p": log_p, "x": points.own(scaling)}}
        return Measured(found, {"likelihood": about}, rows, arrays)


def unguided(field: Field) -> Field:
    """The field without guidance, inside any number of Guided fields."""
    return unguided(field.field) if isinstance(field, Guided) else field


def untouched(subject: Subject) -> bool:
    """Whether the field was trained on bytes that were not dequantised."""
    learned = subject.model is not None or isinstance(unguided(subject.field), LearnedField | ContinuousFlow)  # type: ignore[arg-type]
    return learned and subject.in_bytes and not subject.dataset.dequantise


def without_density(subject: Subject) -> str | None:
    """The reason why the field has no density or there are no test points for it; None where likelihood can be measured."""
    field, dataset = subject.field, subject.dataset
    labelled = subject.labels is not None
    if subject.source is not None and density_of(subject.source) is None:
        return (
            f"the ODE ends in source={name_of(subject.source)}, whose density is not known; it is of mixtures (normal, gmm,"
            " gaussian, 8gaussians, mixture)"
        )
    if field is not None and isinstance(unguided(field), EmpiricalField):
        return "the exact field of finite data has no density"
    if dataset.count_points(dataset.load()) is not None:
        try:
            test = dataset.held_out()
        except UserError as error:
            return f"{error}; its training points would flatter"
        scaling = dataset.scaling(subject.shape)
        if scaling is not None and not scaling.std.all():
            at = int(np.argmin(scaling.std.ravel()))
            name = (dataset.column_names() or tuple(map(str, range(scaling.std.size))))[at]
            return f"coordinate {name} is constant, and has no density; leave it out (dataset.columns=)"
        if labelled and test.y is None:
            return "the test points have no labels that the field could be given"
    if labelled and not subject.classes:
        return "the test points have no labels that the field could be given"
    return None
