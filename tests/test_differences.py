"""Leads among means: equal rows are told apart at most at the stated rate, and a known difference is found."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from diffsde.metrics.differences import ALONE, BY_POINT, LEVEL, PAIRED, UNPAIRED, Units, combined, error, lead_of

TRIES = 1500
MOST = LEVEL + 3 * np.sqrt(LEVEL * (1 - LEVEL) / TRIES)
Make = Callable[[np.random.Generator], list[Units]]


def rate(make: Make, direction: str = "lower", tries: int = TRIES) -> float:
    draw = np.random.default_rng(0)
    return float(np.mean([lead_of(make(draw), direction).is_lead for _ in range(tries)]))


def units(values: np.ndarray, **about: float) -> Units:
    """A row of values by a seed, or by two."""
    return Units({tuple(map(str, at)): float(value) for at, value in np.ndenumerate(values)}, **about)  # type: ignore[arg-type]


def paired(draw: np.random.Generator, rows: int = 2, n: int = 3, apart: float = 0.0) -> list[Units]:
    """Rows of equal law, but for the first, with scatter of their own and three times as much of each seed."""
    common = 3 * draw.normal(size=n)
    return [units(draw.normal(size=n) + common - (apart if i == 0 else 0)) for i in range(rows)]


def crossed(draw: np.random.Generator, scatter: tuple[float, float, float], shape: tuple[int, int]) -> list[Units]:
    """Two rows of equal law, of trainings and noises of each row's own."""
    run, noise, rest = scatter
    each = [
        run * draw.normal(size=(shape[0], 1)) + noise * draw.normal(size=(1, shape[1])) + rest * draw.normal(size=shape)
        for _ in range(2)
    ]
    return [units(values) for values in each]


def other_seeds(draw: np.random.Generator) -> list[Units]:
    """Two rows of equal law whose seeds are not the same, one of three and one of five."""
    return [units(draw.normal(size=3)), Units({(f"other {i}",): draw.normal() for i in range(5)})]


@pytest.mark.parametrize(
    "make",
    [
        paired,
        lambda draw: paired(draw, rows=4, n=2),
        other_seeds,
        lambda draw: [units(draw.normal(size=1), own=1.0) for _ in range(3)],
        lambda draw: [units(draw.normal(size=1), own=0.0), units(draw.normal(size=4))],
        lambda draw: crossed(draw, (1.0, 0.2, 0.2), (3, 2)),
        lambda draw: crossed(draw, (0.2, 1.0, 0.2), (5, 2)),
        lambda draw: crossed(draw, (1.0, 1.0, 1.0), (3, 3)),
    ],
    ids=["paired", "four", "unpaired", "single", "one beside four", "trainings", "noises", "both"],
)
def test_equal_rows_are_told_apart_at_the_stated_rate(make: Make) -> None:
    assert rate(make) <= MOST


def test_trainings_with_one_noise_in_common_are_not_so_many_draws() -> None:
    """Five trainings, all sampled with one noise of each row's own: the five scatter little, and all are off together."""

    def make(draw: np.random.Generator, shared: bool) -> list[Units]:
        rows = [0.2 * draw.normal(size=(5, 1)) + draw.normal() for _ in range(2)]
        return [units(row, own=1.0, shared=shared) for row in rows]

    assert rate(lambda draw: make(draw, True)) <= MOST
    assert rate(lambda draw: make(draw, False), tries=200) > 0.5  # as if each training had a noise of its own


def test_rows_at_both_sides_of_a_target_are_equal() -> None:
    for far in (0.0, 1.0, 4.0):
        assert rate(lambda draw, far=far: [units(draw.choice([-1, 1]) * far + draw.normal(size=5)) for _ in range(2)], "target") <= MOST  # type: ignore[misc]  # fmt: skip
    assert rate(lambda draw: [units(0.1 * draw.normal(size=5) + at) for at in (-0.1, 2.0, -2.0)], "target", 200) > 0.95


def test_the_difference_from_a_target_is_of_the_distances() -> None:
    """On one side of the target and on both; and the next row is the one whose distance is least more than the leader's."""

    def around(at: float) -> Units:
        return units(at + np.array([-0.001, 0.0, 0.0015]))

    for one, other, far in ((0.0089, 0.0189, 0.0289), (0.0089, -0.0189, 0.0289), (-0.0089, 0.0189, -0.0289)):
        rows = [around(far), around(one), around(other)]
        wanted = abs(rows[2].mean) - abs(rows[1].mean)
        for target_error in (0.0, 0.02):  # with the latter no sum of two is known well enough
            found = lead_of(rows, "target", target_error=target_error)
            assert (found.first, found.second) == (1, 2) and found.by is not None
            assert found.by.value == pytest.approx(wanted)
            assert found.is_lead == (not target_error) == found.by.is_lead


def test_a_known_difference_is_found() -> None:
    """Four sds of the differences, for which Student's test of five pairs has a power of 0.99: by scipy's noncentral t."""
    power = 1 - stats.nct.cdf(stats.t.ppf(1 - LEVEL / 2, 4), 4, 4 * np.sqrt(5) / np.sqrt(2))
    assert power > 0.98
    assert rate(lambda draw: paired(draw, 2, 5, 4.0), tries=400) == pytest.approx(power, abs=0.03)
    assert lead_of([units(np.array([3.0, 3.1, 3.2])), units(np.array([1.0, 1.2, 1.1]))], "lower").first == 1
    assert lead_of([units(np.array([3.0, 3.1, 3.2])), units(np.array([1.0, 1.2, 1.1]))], "higher").first == 0


def test_each_difference_has_the_error_of_its_kind() -> None:
    """Against scipy's tests of two means."""
    one, other = np.array([1.0, 2.5, 2.0]), np.array([2.0, 2.9, 3.3])
    found = combined(units(other), units(one), -1.0)
    t = stats.ttest_rel(other, one)
    assert found.how == PAIRED and found.by.error is not None
    assert found.value / found.by.error == pytest.approx(t.statistic)
    assert found.margin == pytest.approx(
        (t.confidence_interval(1 - LEVEL).high - t.confidence_interval(1 - LEVEL).low) / 2
    )
    unpaired = combined(units(other), Units({(f"other {i}",): value for i, value in enumerate(one)}), -1.0)
    welch = stats.ttest_ind(other, one, equal_var=False)
    assert unpaired.how == UNPAIRED and unpaired.value / unpaired.by.error == pytest.approx(welch.statistic)
    low, high = welch.confidence_interval(1 - LEVEL)
    assert unpaired.margin >= (high - low) / 2  # on the safe side
    alone = combined(units(one[:1], own=0.3), units(other[:1], own=0.4), -1.0)
    assert (alone.how, alone.by.error) == (ALONE, pytest.approx(0.5))
    assert alone.margin == pytest.approx(0.5 * stats.norm.ppf(1 - LEVEL / 2))
    assert not lead_of([units(one[:1]), units(one[:1] + 5)], "lower").is_lead  # nothing is known of their errors
    assert error(float("nan")).margin == np.inf


def test_single_rows_are_compared_at_equal_test_points() -> None:
    """What is common to the points falls out: 0.1 apart, each known to 0.5."""
    rows = [units(np.array([0.0]), own=0.5), units(np.array([0.1]), own=0.5)]
    each = 0.1 + 0.02 * np.random.default_rng(0).normal(size=100)
    found = lead_of(rows, "lower", lambda other, first: (each, 0.0))
    assert found.is_lead and found.by is not None and found.by.how == BY_POINT
    assert not lead_of(rows, "lower", lambda other, first: (each, 0.1)).is_lead  # the solvers' error is larger
    assert not lead_of(rows, "lower").is_lead


def one_of_several(draw: np.random.Generator, shape: tuple[int, int]) -> list[Units]:
    """Two rows of equal law that scatters with the noise: of crossed seeds, and of one training with one noise."""
    noise = draw.normal(size=(1, shape[1]))
    several = units(noise + 0.01 * draw.normal(size=shape))
    return [several, Units({("another", "0"): draw.normal()})]


def few_trainings(draw: np.random.Generator) -> list[Units]:
    """Two rows of equal law: three trainings with one noise, and one training with three noises."""
    several = units(draw.normal(size=(3, 1)), own=0.1, shared=True)
    training = draw.normal()
    return [several, Units({("another", str(j)): training + 0.1 * draw.normal() for j in range(3)}, own=0.1)]


@pytest.mark.parametrize(
    "make", [lambda draw: one_of_several(draw, (2, 8)), lambda draw: one_of_several(draw, (1, 8)), few_trainings]
)
def test_a_seed_of_one_value_scatters_as_in_the_other_row(make: Make) -> None:
    """However many values of another seed there are, which say nothing of this one."""
    assert rate(make) <= MOST
