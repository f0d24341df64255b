"""Targets of flow matching against their variance: y itself, E[y | x_t] over 1024 points, and E[y | x_t] exactly.

    python scripts/marginal_target.py [docs/pictures]

Of the network at several points of one training run on the 11-component mixture (path=ot): the losses L_CFM and L_FM beside the constant
between them, by three routes; the standard deviation of each target's gradient over batches, beside the length of their mean, as a
picture (gradient_variance.png). And what the minimiser is of finite data: 64 points of the mixture, learnt with the exact target and with
y, and how far samples then lie from the nearest of these points. CPU time: a few minutes.
"""

from __future__ import annotations

import dataclasses
import sys
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from diffsde.cli.main import composed
from diffsde.datasets import Examples
from diffsde.marginal_targets import with_marginal_targets
from diffsde.objectives import Draw, training_losses
from diffsde.plots.style import DATA, GREY, NOISE, blank_figure
from diffsde.runs.train_config import field_of, train_choices
from diffsde.samplers import LoopSettings, simulate_compiled
from diffsde.samplers.ode import Heun
from diffsde.training import Run, TrainState, examples, loss_floor, mean_gradient, start, train_steps
from diffsde.types import Array, Key
from diffsde.verbs.train_setup import learned, prepare

STEPS, BATCHES, BATCH = (0, 100, 300, 1000, 3000), 128, 512
TARGETS = {
    "one z (conditional)": (GREY, 0),
    "1024 points (posterior_points)": (NOISE, 1024),
    "exact (marginal)": (DATA, None),
}
FEW, FEW_STEPS = 64, 3000  # points of the finite data, and steps on them


def begin(words: str) -> tuple[Any, Run, Any]:
    """The choices, the run and fresh parameters of a training command."""
    chosen = train_choices(composed("train", words.split()))
    run, params = prepare(chosen)
    return chosen, run, params


def batch_of(run: Run, key: Key, points: int | None) -> Draw:
    """A batch with its targets: over so many drawn points, 0 for z alone, None for the exact mean."""
    batch = examples(run, key, BATCH, points or 0)
    return with_marginal_targets(run.problem, run.arrays, batch, 0) if points is None else batch


@partial(jax.jit, static_argnames="points")
def gradients(run: Run, params: Any, points: int | None) -> Array:
    """The gradients (BATCHES, parameters) of independent batches, the same of each target."""

    def one(key: Key) -> Array:
        found = mean_gradient(run.problem, params, batch_of(run, key, points), 1)[1]
        return jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(found)])

    return jax.lax.map(one, jax.random.split(jax.random.key(9), BATCHES))


@jax.jit
def losses(run: Run, params: Any) -> tuple[Array, Array]:
    """L_FM and L_CFM of 64 batches, (64 BATCH,) each, of the same examples."""

    def one(key: Key) -> tuple[Array, Array]:
        return training_losses(run.problem, params, batch_of(run, key, None))

    against, own = jax.lax.map(one, jax.random.split(jax.random.key(8), 64))
    return against.ravel(), own.ravel()


def along_training() -> list[tuple[int, dict[str, tuple[float, float]], Any]]:
    """At each of STEPS: for each target the gradient's std and the mean's length; and the parameters."""
    _, run, params = begin("dataset=gmm objective=cfm steps=3000 posterior_points=0 seed=0")
    state, found = start(run, params), []
    floor, error = loss_floor(run, run.arrays, jax.random.key(7), 2**18)
    print(f"\nE Var(y | x_t)/d (loss_floor): {float(floor):.4f} +- {float(error):.4f}\n")
    print("| steps | L_CFM | L_FM | L_CFM - L_FM |\n|---|---|---|---|")
    for step in STEPS:
        if step > int(state.step):
            state, _ = train_steps(run, state, jnp.asarray(step - int(state.step)), chunk=STEPS[-1])
        against, own = (np.asarray(each, np.float64) for each in losses(run, state.params))
        apart = own - against
        print(
            f"| {step} | {own.mean():.4f} | {against.mean():.4f} | {apart.mean():.4f} +-"
            f" {apart.std() / np.sqrt(apart.size):.4f} |"
        )
        found.append((step, {name: spread(run, state, points) for name, (_, points) in TARGETS.items()}, None))
    return found


def spread(run: Run, state: TrainState, points: int | None) -> tuple[float, float]:
    """(std of the gradient of one batch, length of its mean); the length without the bias that the std gives it."""
    each = np.asarray(gradients(run, state.params, points), np.float64)
    variance = each.var(axis=0, ddof=1).sum()
    return float(np.sqrt(variance)), float(np.sqrt(max((each.mean(axis=0) ** 2).sum() - variance / len(each), 0)))


def picture(found: list[tuple[int, dict[str, tuple[float, float]], Any]], where: Path) -> None:
    """Std of the gradient against steps of training, a line a target, over the length of the mean gradient."""
    figure = blank_figure(760, 480, 100)
    axes = figure.add_axes((0.11, 0.13, 0.86, 0.76))
    steps = [max(step, 30) for step, *_ in found]
    for name, (colour, _) in TARGETS.items():
        axes.plot(steps, [each[name][0] for _, each, _ in found], color=colour, marker="o", label=f"std, target {name}")
    exact = list(TARGETS)[-1]
    axes.plot(steps, [each[exact][1] for _, each, _ in found], color="#1b1f2a", ls="--", label="length of the mean")
    axes.set(xscale="log", yscale="log", xlabel="steps of training", ylabel="gradient of one batch of 512")
    axes.set_xticks(steps, [f"{step:,}" for step, *_ in found], minor=False)
    axes.minorticks_off()
    axes.set_title("Variance of the gradient, by the target (11 Gaussians, path=ot, cfm)")
    axes.legend(frameon=False, fontsize=9)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    where.mkdir(parents=True, exist_ok=True)
    figure.savefig(where / "gradient_variance.png")


def finite(target: str) -> None:
    """Learns 64 points; says how far samples lie from the nearest of them, beside how far fresh points of the law do."""
    words = f"dataset=gmm objective=cfm objective.target={target} steps={FEW_STEPS} posterior_points=0 net=mlp"
    chosen, run, params = begin(words)
    law = run.arrays
    points = run.dataset.draw(law, jax.random.key(5), FEW)
    run = dataclasses.replace(run, dataset=Few(), arrays=Examples(points, None))  # type: ignore[arg-type]
    state, _ = train_steps(run, start(run, params), jnp.asarray(FEW_STEPS), chunk=FEW_STEPS)
    average = jax.tree.map(lambda leaf: leaf[0], state.ema)
    field, x0 = field_of(chosen, learned(run), average), jax.random.normal(jax.random.key(6), (2000, 2))
    x = simulate_compiled(
        Heun(), field, x0, jnp.linspace(0, 1, 201), jax.random.key(0), settings=LoopSettings("mean")
    ).x
    fresh = chosen.dataset.draw(law, jax.random.key(11), 2000)
    print(f"| {target} | {nearest(x, points):.3f} | {nearest(fresh, points):.3f} |")


class Few:
    """The draw of finite points in the place of a dataset."""

    def draw_labelled(self, arrays: Examples, key: Key, count: int) -> tuple[Array, None]:
        """`count` of the points, with replacement."""
        return arrays.x[jax.random.randint(key, (count,), 0, FEW)], None

    def __hash__(self) -> int:
        return 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Few)


jax.tree_util.register_static(Few)


def nearest(x: Any, points: Any) -> float:
    """The median distance from x (n, d) to the nearest of the points."""
    return float(np.median(np.linalg.norm(np.asarray(x)[:, None] - np.asarray(points)[None], axis=-1).min(axis=1)))


def main() -> None:
    where = Path(sys.argv[1] if len(sys.argv) > 1 else "docs/pictures")
    found = along_training()
    print("\n| steps | " + " | ".join(TARGETS) + " | length of the mean |\n|---|" + "---|" * (len(TARGETS) + 1))
    for step, each, _ in found:
        exact = list(each.values())[-1]
        print(f"| {step} | " + " | ".join(f"{std:.4g}" for std, _ in each.values()) + f" | {exact[1]:.4g} |")
    picture(found, where)
    print(
        f"\n| target, {FEW} points | samples to the nearest point | fresh points of the law to the nearest |\n|---|---|---|"
    )
    for target in ("conditional", "marginal"):
        finite(target)


if __name__ == "__main__":
    main()
