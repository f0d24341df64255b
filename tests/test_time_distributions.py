"""Time laws: uniforms that never touch 0 or 1, one in each stratum, and each law against its definition."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import known
from scipy import special, stats

from diffsde.build import check
from diffsde.errors import UserError
from diffsde.paths import PATHS, GaussianPath
from diffsde.time_distributions import (
    TIME_DISTRIBUTIONS,
    LogitNormal,
    LogNormal,
    TimeDistribution,
    Uniform,
    draw_uniforms,
    invert_log_snr,
)
from diffsde.types import Array, Moments, Scalar

COUNTS = [1, 7, 1000, 4095, 2**20]  # 7, 1000 and 4095: k/n is not exact in float32
BITS = {"zeros": 0, "ones": 0xFFFFFFFF, "alternating": 0xAAAAAAAA}


@jax.jit
def _times(law: TimeDistribution, path: GaussianPath, u: Array, std: Scalar) -> Array:
    return jax.vmap(lambda u: law.quantile(u, path, Moments(jnp.zeros(2), std)))(u)


def times(law: TimeDistribution, u: Array, path: str = "ot", std: float = 0.5) -> np.ndarray:
    return np.asarray(_times(law, PATHS[path](), u, std))


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("stratified", [True, False])
@pytest.mark.parametrize("pattern", [None, *BITS])
def test_uniforms_stay_inside(
    monkeypatch: pytest.MonkeyPatch, pattern: str | None, stratified: bool, count: int
) -> None:
    """0 < u < 1 in float32, whatever the random bits and the batch size; stratified, exactly one u in each cell."""
    if pattern is not None:
        monkeypatch.setattr(jax.random, "bits", lambda key, shape, dtype: jnp.full(shape, BITS[pattern], dtype))
    u = draw_uniforms(jax.random.key(count), count, stratified)
    assert u.shape == (count,) and u.dtype == jnp.float32
    assert np.all((np.asarray(u) > 0) & (np.asarray(u) < 1))
    if stratified:
        cells = np.floor(np.asarray(u, np.float64) * count).astype(int)
        np.testing.assert_array_equal(cells, np.arange(count))


@pytest.mark.parametrize("count", [7, 1000])
def test_compiled_uniforms_stay_inside(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """The same in a compiled program, where a division by a constant may become a product with its rounded inverse."""
    monkeypatch.setattr(jax.random, "bits", lambda key, shape, dtype: jnp.full(shape, 0xFFFFFFFF, dtype))
    u = np.asarray(jax.jit(lambda key: draw_uniforms(key, count, True))(jax.random.key(0)))
    assert u.max() < 1
    np.testing.assert_array_equal(np.floor(np.float64(u) * count), np.arange(count))


def test_uniforms_reach_far_into_both_ends() -> None:
    """The smallest and the largest u are within 2^-21 of 0 and 1: the open interval is not bought with
    a wide margin.
    """
    with pytest.MonkeyPatch.context() as patch:
        for pattern, end in ((0, 0.0), (0xFFFFFFFF, 1.0)):
            patch.setattr(jax.random, "bits", lambda key, shape, dtype, p=pattern: jnp.full(shape, p, dtype))
            assert 0 < abs(float(draw_uniforms(jax.random.key(0), 1, False)[0]) - end) <= 2.0**-21


@pytest.mark.parametrize(("count", "stratified"), [(20_000, False), (1, True), (1000, True)])
def test_uniforms_are_uniform(count: int, stratified: bool) -> None:
    """Over all draws, and inside the cells of a stratified draw, u is uniform (Kolmogorov-Smirnov)."""
    keys = jax.random.split(jax.random.key(5), 2000 if count == 1 else 5)
    u = np.stack([draw_uniforms(key, count, stratified) for key in keys[:5]]) if count > 1 else None
    if u is None:
        u = np.asarray(jax.jit(jax.vmap(lambda key: draw_uniforms(key, 1, stratified)))(keys))
    inside = (u * count) % 1 if stratified else u
    assert stats.kstest(np.ravel(inside), "uniform").pvalue > 1e-3


def test_draws_differ_between_keys() -> None:
    """Another key gives other times in every cell."""
    first, second = (draw_uniforms(jax.random.key(seed), 1000, True) for seed in (0, 1))
    assert np.mean(np.asarray(first == second)) < 0.01


LAWS = {
    "uniform": (Uniform(stratified=False), "ot", lambda t: t),
    "logit_normal": (LogitNormal(stratified=False), "ot", lambda t: stats.norm.cdf(special.logit(t))),
    "logit_normal-shifted": (
        LogitNormal(-0.8, 1.7, False),
        "ot",
        lambda t: stats.norm.cdf(special.logit(t), -0.8, 1.7),
    ),
    "log_normal": (
        LogNormal(stratified=False),
        "ot",
        lambda t: stats.norm.sf(np.log((1 - t) / (0.5 * t)), -0.507, 1.6),
    ),
    "log_normal-shifted": (
        LogNormal(0.3, 0.7, False),
        "trig",
        lambda t: stats.norm.sf(np.log(1 / (0.5 * np.tan(np.pi * t / 2))), 0.3, 0.7),
    ),
}


@pytest.mark.parametrize("name", list(LAWS))
def test_draws_follow_their_law(name: str) -> None:
    """5000 independent draws pass a Kolmogorov-Smirnov test against the law's definition."""
    law, path, cdf = LAWS[name]
    t = times(law, draw_uniforms(jax.random.key(11), 5000, law.stratified), path)
    assert stats.kstest(np.asarray(t, np.float64), cdf).pvalue > 1e-3


@pytest.mark.parametrize("name", list(LAWS))
def test_stratified_draws_are_nearer_than_chance(name: str) -> None:
    """Stratified, the empirical distribution of n draws is nowhere farther than 1/n from the law, for sure."""
    law, path, cdf = LAWS[name]
    t = np.asarray(times(law, draw_uniforms(jax.random.key(12), 512, True), path), np.float64)
    assert stats.kstest(t, cdf).statistic <= 1 / 512 + 1e-5


@pytest.mark.parametrize("std", [0.5, 7.0])
@pytest.mark.parametrize("path", ["ot", "vp"])
def test_log_normal_noise_levels(x64: None, path: str, std: float) -> None:
    """log(beta/(alpha s)) has N(mean, std^2)'s quantiles, falling in u, wherever the path reaches that level."""
    law, u = LogNormal(mean=-0.4, std=0.8), np.linspace(0.01, 0.99, 99)
    t = times(law, jnp.asarray(u), path, std)
    c, _, _ = known(PATHS[path](), t)
    level = np.log(c.beta / (c.alpha * std))
    np.testing.assert_allclose(level, stats.norm.ppf(u, -0.4, 0.8), atol=2e-5)
    assert np.all(np.diff(t) < 0)


def test_edms_constants_in_units_of_the_data(x64: None) -> None:
    """With s = 0.5 on edm's path the default mean, with a std of 1.2, is EDM's law: log(noise level) ~ N(-1.2, 1.2^2)."""
    u = np.linspace(0.01, 0.99, 99)
    t = times(LogNormal(std=1.2), jnp.asarray(u), "edm", 0.5)
    level = np.log(known(PATHS["edm"](), t)[0].beta)
    np.testing.assert_allclose(level, stats.norm.ppf(u, -1.2, 1.2), atol=2e-4)


@pytest.mark.parametrize("name", ["ot", "cosine", "vp", "edm"])
def test_log_snr_is_inverted(x64: None, name: str) -> None:
    """invert_log_snr undoes log_snr to 2^-24; what a path does not reach falls on its ends, inside (0, 1)."""
    t = np.linspace(0.01, 0.99, 33)
    levels = np.concatenate([known(PATHS[name](), t)[1], [-1e3, 1e3]])
    *found, low, high = jax.jit(jax.vmap(partial(invert_log_snr, PATHS[name]())))(jnp.asarray(levels))
    np.testing.assert_allclose(found, t, rtol=0, atol=2.0**-23)
    assert 0 < low < 1e-6 and 1 - 1e-6 < high < 1


EXTREME_LAWS = [
    *(cls() for cls in TIME_DISTRIBUTIONS.values()),
    LogitNormal(mean=10.5, std=1.0),
    LogitNormal(mean=-10.5, std=1.0),
    LogitNormal(mean=0.0, std=2.9),
    LogNormal(mean=30.0),
    LogNormal(mean=-30.0),
    LogNormal(std=20.0),
]


@pytest.mark.parametrize("law", EXTREME_LAWS, ids=repr)
def test_times_stay_inside_in_float32(law: TimeDistribution) -> None:
    """At the extreme uniforms 2^-24 and 1 - 2^-24 every law that passes its check gives 0 < t < 1, on every path."""
    if check := getattr(law, "check", None):
        check()
    ends = jnp.array([2.0**-24, 1 - 2.0**-24], jnp.float32)
    for path in ("ot", "vp") if isinstance(law, LogNormal) else ("ot",):
        t = times(law, ends, path)
        assert t.dtype == np.float32 and np.all((t > 0) & (t < 1)), (path, t)


@pytest.mark.parametrize(
    ("law", "message"),
    [
        (LogitNormal(std=0.0), "std is 0.0"),
        (LogitNormal(std=-1.0), "std is -1.0"),
        (LogitNormal(mean=12.0), "mean=12.0"),
        (LogitNormal(std=4.0), "std=4.0"),
        (LogNormal(std=0.0), "std is 0.0"),
        (LogNormal(std=-2.0), "std is -2.0"),
    ],
    ids=repr,
)
def test_checks_refuse_bad_numbers(law: LogitNormal | LogNormal, message: str) -> None:
    """A law that cannot be, or that float32 cannot hold, is refused with its own number in the message."""
    with pytest.raises(UserError, match=message):
        check(law)
