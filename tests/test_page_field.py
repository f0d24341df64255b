"""The fields that a page evaluates by itself (field.js), against diffsde's own, by node."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from diffsde import nets
from diffsde.empirical import arrange
from diffsde.fields import EmpiricalField, Field, LearnedField, OracleField
from diffsde.mixtures import Mixture, with_covariances
from diffsde.nets import MLP
from diffsde.paths import PATHS
from diffsde.report import live_field
from diffsde.types import Moments
from tests.conftest import ends

WEB = Path(live_field.__file__).parent / "web"
OWN = sorted(path for path in WEB.glob("*.js") if "plotly" not in path.name)
NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="there is no node on this machine")

LINE = Mixture(np.array([[-2.0], [1.5]]), np.array([[0.3], [1.0]]), np.array([0.4, 0.6]))  # type: ignore[arg-type]
POINTS = np.random.default_rng(3).normal(size=(40, 2)).astype(np.float32)
TIMES = np.linspace(0.05, 0.95, 19)


def mixture() -> Mixture:
    """Three components in the plane, two of them with correlation."""
    return with_covariances(
        jnp.array([[-2.0, 1.0], [1.5, -0.5], [0.0, 3.0]]),
        jnp.array([[[1.0, 0.6], [0.6, 0.5]], [[0.3, 0.0], [0.0, 0.3]], [[0.2, -0.1], [-0.1, 0.9]]]),
        jnp.array([0.5, 0.2, 0.3]),
    )


def by_node(script: str, **given: Any) -> Any:
    """What a script of JavaScript says: it has F (field.js) and the given values, and returns one."""
    text = f"const F = require({json.dumps(str(WEB / 'field.js'))});"
    text += "const g = JSON.parse(require('fs').readFileSync(0, 'utf8'));"
    text += f"console.log(JSON.stringify((() => {{ {script} }})()));"
    assert NODE is not None
    ran = subprocess.run([NODE, "-e", text], input=json.dumps(given), capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


def learned(net: MLP, path: str, kind: str, precondition: bool, d: int = 2, classes: int = 0) -> LearnedField:
    """A field of a network with random parameters, none of them 0."""
    graph, shapes = nets.structure(net, (d,), "float32", classes)
    rng = np.random.default_rng(5)
    params = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32) / leaf.shape[0] ** 0.5, shapes)
    moments = Moments(np.array([0.7, -1.2][:d], np.float32), np.float32(1.8))  # type: ignore[arg-type]
    return LearnedField(PATHS[path](), params, moments, graph, kind, precondition, classes)  # type: ignore[arg-type]


NETS: dict[str, tuple[Any, ...]] = {
    "usual": (MLP(), "ot", "velocity", True),
    "on a line": (MLP((8, 8), "relu"), "trig", "noise", True, 1),
    "labels": (MLP((8, 8), "silu"), "cosine", "velocity", False, 2, 3),
    "noise": (MLP((8,), "selu", gated_skip=3), "vp", "noise", False),
    "data": (MLP((8,), "tanh", time_frequencies=0), "ot", "data", False),
    "score": (MLP((8,), "softplus", space_frequencies=0), "ot", "score", False),
    "v": (MLP((8,), "gelu", gated_skip=1), "trig", "v", False),
}
EXACT = ("mixture", "line", "points")


def case(name: str) -> tuple[Field, MLP | None]:
    """A field, and its net."""
    if name in NETS:
        return learned(*NETS[name]), NETS[name][0]
    if name == "points":
        return EmpiricalField(PATHS["ot"](), arrange(jnp.asarray(POINTS)), len(POINTS), (2,)), None
    return OracleField(PATHS["vp"](), mixture(), (2,)) if name == "mixture" else OracleField(
        PATHS["sqrt"](), LINE, (1,)
    ), None


@partial(jax.jit, static_argnames="d")
def values(field: Field, x: jax.Array, times: jax.Array, d: int) -> dict[str, jax.Array]:
    """Velocity and score (m, k, d) at points (k, d) and times (m,)."""
    found = jax.lax.map(lambda t: jax.vmap(lambda x: field.output(x, t))(x), times)
    return {"velocity": found.velocity, "score": found.score}


@needs_node
@pytest.mark.parametrize("name", [*EXACT, *NETS])
def test_a_page_evaluates_the_field_that_diffsde_does(name: str) -> None:
    """To 1e-4 at every point and time, of exact fields, and of networks of every prediction and activation."""
    field, net = case(name)
    d = field.shape[0]
    spec, why = live_field.live_field(field, net)
    assert spec is not None, why
    x = np.random.default_rng(2).normal(size=(12, d)) * 2
    grid = live_field.grid_numbers(field.path, TIMES.astype(np.float32))
    padded = np.pad(x, ((0, 0), (0, 2 - d))).tolist()
    script = """const grid = F.readGrid(g.grid), field = F.makeField(g.spec, grid);
    return Array.from(grid.t, (_, j) => g.x.map((x) => field.at(x, j)));"""
    theirs = by_node(script, spec=spec, grid=grid, x=padded)
    own = values(field, jnp.asarray(x, jnp.float32), jnp.asarray(TIMES, jnp.float32), d)
    for what, value in own.items():
        page = np.array([[each[what][:d] for each in row] for row in theirs])
        np.testing.assert_allclose(page, np.asarray(value), rtol=1e-4, atol=1e-4 * float(jnp.abs(value).mean()))


@needs_node
@pytest.mark.parametrize("name", ["mixture", "usual"])
def test_the_ode_of_a_page_is_heuns(name: str) -> None:
    """Its trajectory is that of sampler=heun over the same times, and back from there it comes to where it began."""
    from diffsde.samplers.ode import Heun

    field, net = case(name)
    spec, _ = live_field.live_field(field, net)
    x, times = np.array([[0.4, -1.1], [2.0, 0.3]]), np.linspace(0, 1, 65)
    grid = live_field.grid_numbers(field.path, times)
    script = """const grid = F.readGrid(g.grid), field = F.makeField(g.spec, grid);
    return g.x.map((x) => {
      const way = F.ode(field, grid, x, 0, 63), end = way.slice(-2);
      const noise = F.normals(1, 200), plain = F.sde(field, grid, grid.t, 0, x, 0, noise);
      return { end, back: F.ode(field, grid, end, 63, 0).slice(-2), plain: plain.slice(2 * 63, 2 * 64) };
    });"""
    found = by_node(script, spec=spec, grid=grid, x=x.tolist())
    (own,) = ends(Heun(), field, jnp.asarray(x, jnp.float32), [jnp.asarray(times[:-1], jnp.float32)], last="step")
    np.testing.assert_allclose([each["end"] for each in found], np.asarray(own), atol=2e-4)
    np.testing.assert_allclose([each["back"] for each in found], x, atol=5e-3)
    assert [each["plain"] for each in found] == [each["end"] for each in found]  # sigma = 0


@needs_node
def test_the_sde_of_a_page_keeps_the_marginals() -> None:
    """Of Gaussian data, mean and std at the end are the data's for every sigma; and its noise is normal."""
    law = Mixture(jnp.array([[1.0, -2.0]]), jnp.array([[0.49, 0.49]]), jnp.array([1.0]))
    path = PATHS["ot"]()
    spec, _ = live_field.live_field(OracleField(path, law, (2,)), None)
    grid, count = live_field.grid_numbers(path, np.linspace(0, 1, 129)), 1500
    script = """const grid = F.readGrid(g.grid), field = F.makeField(g.spec, grid), ones = grid.t.map(() => 1);
    const starts = F.normals(7, 2 * g.count);
    const ends = [0.5, 1.5].map((sigma) => Array.from({ length: g.count }, (_, i) =>
      F.sde(field, grid, ones, sigma, [starts[2 * i], starts[2 * i + 1]], 0, F.normals(100 + i, 256)).slice(-2)));
    return { ends, normals: [...F.normals(3, 20000)] };"""
    found = by_node(script, spec=spec, grid=grid, count=count)
    for end in np.array(found["ends"]):
        np.testing.assert_allclose(end.mean(axis=0), [1.0, -2.0], atol=4 * 0.7 / math.sqrt(count))
        np.testing.assert_allclose(end.std(axis=0), 0.7, atol=4 * 0.7 / math.sqrt(2 * count))
    normal = np.array(found["normals"])
    assert abs(normal.mean()) < 0.03 and abs(normal.std() - 1) < 0.02
    assert abs((normal**4).mean() - 3) < 4 * math.sqrt(96 / normal.size)


@needs_node
def test_the_density_of_a_page_is_the_law_s() -> None:
    """In proportion to p_t at every pixel, for components with and without correlation: exact there by log_prob."""
    path, times = PATHS["ot"](), np.array([0.3, 0.9])
    spec, _ = live_field.live_field(OracleField(path, mixture(), (2,)), None)
    script = """const grid = F.readGrid(g.grid), law = F.readLaw(g.spec);
    const window = { left: -3, right: 3, bottom: -2, top: 4 };
    return [0, 1].map((j) => [...F.density(law, F.coefficients(grid, j), 0, window, 6, 6)]);"""
    found = np.array(by_node(script, spec=spec, grid=live_field.grid_numbers(path, times))).reshape(2, 6, 6)
    x, y = np.meshgrid(np.arange(6) - 2.5, 3.5 - np.arange(6))
    field, places = (
        OracleField(path, mixture(), (2,)),
        jnp.asarray(np.stack([x, y], axis=-1).reshape(-1, 2), jnp.float32),
    )
    for page, t in zip(found, times, strict=True):
        own = np.exp(np.asarray(jax.vmap(lambda x, t=t: field.log_prob(x, jnp.float32(t)))(places))).reshape(6, 6)
        np.testing.assert_allclose(page / (2 * np.pi), own, rtol=1e-3, atol=1e-9)


@needs_node
@pytest.mark.parametrize("script", OWN, ids=lambda path: path.name)
def test_scripts_are_read_by_node(script: Path) -> None:
    assert NODE is not None
    ran = subprocess.run([NODE, "--check", str(script)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


def test_what_a_page_does_not_evaluate_is_said() -> None:
    field, _ = case("usual")
    assert live_field.live_field(field, None)[1].startswith("a page evaluates networks of net=mlp")
    many = jnp.zeros((live_field.MOST_POINTS + 1, 2))
    spec, why = live_field.live_field(EmpiricalField(PATHS["ot"](), arrange(many), len(many), (2,)), None)
    assert spec is None and "3,001 points" in why
