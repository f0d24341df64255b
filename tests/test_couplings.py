"""Plans of a batch, against brute force, scipy, POT and what is known in closed form."""

import dataclasses
from itertools import permutations

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from diffsde.couplings import OptimalTransport, Sinkhorn, Unbalanced
from diffsde.couplings.assignment import REDUCED_FROM, assign, potential
from diffsde.couplings.coupling import squared_distances
from diffsde.couplings.scaling import entropic
from diffsde.errors import UserError
from diffsde.paths import PATHS
from diffsde.schroedinger import Gaussian, bridge


def clouds(n: int, d: int = 2, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Points (n, d) of a normal law and of two lumps."""
    random = np.random.default_rng(seed)
    y, z = random.standard_normal((2, n, d))
    return y, 0.3 * z + 3 * np.sign(random.standard_normal((n, 1)))


def test_the_assignment_is_the_best_of_all() -> None:
    costs = squared_distances(*clouds(6))
    best = min(permutations(range(6)), key=lambda columns: costs[np.arange(6), columns].sum())
    assert assign(costs[None])[0].tolist() == list(best)


@pytest.mark.parametrize("d", [2, 32])
@pytest.mark.parametrize("n", [40, 150])
def test_potentials_do_not_change_the_assignment(n: int, d: int) -> None:
    """Also where all costs are equal, and where one point is so far away that its potential overflows."""
    y, z = clouds(n, d)
    far = np.vstack([z[1:], 1e4 + z[:1]])
    assert (3 * n**2 >= REDUCED_FROM) == (n > 100)
    blocks = np.stack([squared_distances(y, z), np.ones((n, n)), squared_distances(y, far)])
    for costs, found in zip(blocks, assign(blocks), strict=True):
        rows, columns = linear_sum_assignment(costs)
        assert sorted(found) == list(range(n))
        assert costs[rows, found].sum() == pytest.approx(costs[rows, columns].sum(), rel=1e-9)


def test_the_potentials_are_nearly_optimal() -> None:
    """What they save is paths: the duality gap, the assignment's reduced costs, is a fraction of that of the least costs alone."""
    costs = squared_distances(*clouds(150))[None]
    columns = linear_sum_assignment(costs[0])[1]
    gaps = []
    for found in (potential(costs), costs.min(axis=1, keepdims=True)):
        reduced = costs - found
        reduced -= reduced.min(axis=2, keepdims=True)
        gaps.append(reduced[0, np.arange(150), columns].sum())
    assert 0 <= gaps[0] < 0.1 * gaps[1]


def test_transport_on_a_line_is_sorting() -> None:
    y, z = clouds(120, 1)
    plan = OptimalTransport().plan(y, z, np.random.default_rng(0))
    np.testing.assert_array_equal(np.argsort(y[plan.i, 0]), np.argsort(z[plan.j, 0]))
    assert plan.error == 0


def test_squared_distances_in_many_dimensions() -> None:
    """Of points far from zero, whose squares cancel; whether by differences or by a product of matrices."""
    for d in (2, 16, 17, 40):
        y, z = (1000 + points for points in clouds(9, d))
        np.testing.assert_allclose(squared_distances(y, z), ((y[:, None] - z) ** 2).sum(-1), rtol=1e-9)


@pytest.mark.parametrize("epsilon", [3.0, 0.3, 0.05])
def test_the_entropic_plan_is_pots(epsilon: float) -> None:
    ot = pytest.importorskip("ot")
    costs, each = squared_distances(*clouds(24)), np.full(24, 1 / 24)
    found = entropic(costs, epsilon, tolerance=1e-10, most=200_000)
    theirs = ot.sinkhorn(each, each, costs, epsilon, method="sinkhorn_log", numItermax=200_000, stopThr=1e-10)
    assert found.error <= 1e-10
    np.testing.assert_allclose(found.plan, theirs, atol=1e-8)


def test_the_unbalanced_plan_is_pots() -> None:
    ot = pytest.importorskip("ot")
    costs, each = squared_distances(*clouds(20)), np.full(20, 1 / 20)
    found = entropic(costs, 0.2, 1.5, tolerance=1e-10, most=100_000)
    theirs = ot.unbalanced.sinkhorn_knopp_unbalanced(
        each, each, costs, 0.2, 1.5, reg_type="kl", numItermax=100_000, stopThr=1e-14
    )
    assert found.plan.sum() < 0.9  # mass is left out, or the test could not tell it from the balanced plan
    np.testing.assert_allclose(found.plan, theirs, atol=1e-8)


def test_the_unbalanced_plan_of_two_points() -> None:
    """P minimises C P + eps P (log P - 1) + 2 rho P (log P - 1): log P = -C/(eps + 2 rho)."""
    found = entropic(np.array([[5.0]]), 0.5, 2.0, tolerance=1e-12)
    assert found.plan[0, 0] == pytest.approx(np.exp(-5 / 4.5))


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.0])
def test_entropic_transport_of_gaussians(sigma: float) -> None:
    """With epsilon = 2 sigma^2 the covariance of the two ends is the Schroedinger bridge's, in closed form (2202.05722)."""
    from statistics import NormalDist

    points = np.array([NormalDist().inv_cdf((k + 0.5) / 300) for k in range(300)])
    y, z = 1.5 * points, 0.8 * points
    plan = entropic(squared_distances(y[:, None], z[:, None]), 2 * sigma**2, tolerance=1e-8).plan
    ends = (Gaussian(np.zeros(1), np.array([[np.mean(points**2)]])) for points in (y, z))
    assert y @ plan @ z == pytest.approx(float(bridge(*ends, sigma).cross[0, 0]), rel=2e-3)


def test_the_error_is_the_marginals() -> None:
    """It is what is left of the rows when the iterations end early, and the tolerance where they do not."""
    costs = squared_distances(*clouds(64))
    early = entropic(costs, 0.01, most=40)
    assert early.error == pytest.approx(np.abs(early.plan.sum(axis=1) - 1 / 64).sum(), rel=1e-6) and early.error > 1e-3
    assert entropic(costs, 0.01, tolerance=1e-3).error <= 1e-3
    assert Sinkhorn(epsilon=0.01, iterations=40).pair(costs[None], np.random.default_rng(0)).error == early.error


def test_pairs_are_drawn_from_the_plan() -> None:
    y, z = clouds(5)
    plan, random = entropic(squared_distances(y, z), 4.0).plan, np.random.default_rng(0)
    coupling, counts = Sinkhorn(epsilon=4.0), np.zeros((5, 5))
    for _ in range(4000):
        i, j, _ = coupling.plan(y, z, random)
        counts[i, j] += 1
    np.testing.assert_array_equal(counts.sum(axis=1), 4000)
    np.testing.assert_allclose(counts / 20_000, plan, atol=5 * np.sqrt(0.2 / 20_000 * 0.2))


def test_unbalanced_pairs_leave_out_what_is_far() -> None:
    y, z = clouds(50)
    y[0] = 40.0
    coupling, random = Unbalanced(epsilon=0.5, rho=2.0), np.random.default_rng(1)
    counts = np.bincount(np.concatenate([coupling.plan(y, z, random).i for _ in range(100)]), minlength=50) / 5000
    mass = entropic(squared_distances(y, z), 0.5, 2.0).plan.sum(axis=1)
    assert counts[0] == 0
    np.testing.assert_allclose(counts, mass / mass.sum(), atol=0.2 / 50)


def test_a_plan_without_mass_is_refused() -> None:
    y, z = clouds(10)
    with pytest.raises(UserError, match=r"rho is 0\.001, which leaves out all points"):
        Unbalanced(epsilon=0.01, rho=0.001).plan(y, 30 + z, np.random.default_rng(0))


@pytest.mark.parametrize("coupling", [OptimalTransport(), Sinkhorn(epsilon=0.5)], ids=["ot", "sinkhorn"])
def test_blocks_and_labels_are_kept_apart(coupling: OptimalTransport | Sinkhorn) -> None:
    """Within a block, and within a label: a label's points of the source are those beside its points of the data."""
    y, z = clouds(60)
    labels = np.random.default_rng(2).integers(0, 3, 60)
    i, j, _ = dataclasses.replace(coupling, block=20).plan(y, z, np.random.default_rng(0), labels)
    np.testing.assert_array_equal(i // 20, j // 20)
    np.testing.assert_array_equal(labels[i], labels[j])
    np.testing.assert_array_equal(labels[i], labels)  # a row keeps its label: times are stratified by rows
    assert sorted(i) == list(range(60))
    if isinstance(coupling, OptimalTransport):
        assert sorted(j) == list(range(60))
        whole, parts = (OptimalTransport(block=block).plan(y, z, np.random.default_rng(0)) for block in (None, 20))
        assert ((y[whole.i] - z[whole.j]) ** 2).sum() < ((y[parts.i] - z[parts.j]) ** 2).sum()


def test_sizes_that_do_not_fit_are_refused() -> None:
    assert OptimalTransport(block=64).points(256) == 256
    assert OptimalTransport(batch_size=1024, block=512).points(256) == 1024
    with pytest.raises(UserError, match="batch_size is 100; it must be a multiple of batch_size=64"):
        OptimalTransport(batch_size=100).points(64)
    with pytest.raises(UserError, match="block is 48; it must divide batch_size=64"):
        OptimalTransport(block=48).points(64)


def test_epsilon_is_the_bridges() -> None:
    bridge_path = PATHS["bridge"](sigma=0.5)
    assert Sinkhorn().resolved(bridge_path, 8) == Sinkhorn(epsilon=0.5, batch_size=8)
    assert Unbalanced(epsilon=0.3).resolved(bridge_path, 8) == Unbalanced(epsilon=0.3, batch_size=8)
    with pytest.raises(UserError, match=r"give coupling\.epsilon="):
        Sinkhorn().resolved(PATHS["ot"](), 8)
