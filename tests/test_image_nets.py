"""Networks for images: symmetries, transposes, counts by hand, and what every one must hold."""

from __future__ import annotations

import dataclasses
import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from diffsde import nets
from diffsde.build import check
from diffsde.errors import UserError
from diffsde.nets import MLP, NETS, Auto, choose_net, count, initialise, structure
from diffsde.nets.dit import DiT
from diffsde.nets.layers import attention, normalise
from diffsde.nets.mixer import Mixer
from diffsde.nets.patches import patchify, sincos_position_embedding, unpatchify
from diffsde.nets.unet import UNet, convolve, double, group_normalise, halve

apply = jax.jit(nets.apply, static_argnums=0)  # a network op by op is a hundred programs

SHAPE = (8, 8, 2)
SMALL: dict[str, Any] = {
    "mlp": MLP((6, 5), time_frequencies=2, space_frequencies=1),
    "mixer": Mixer(patch=4, overlap=1, width=12, depth=2, mix=6, expand=2, time_frequencies=3),
    "dit": DiT(patch=4, width=12, depth=2, heads=3, expand=2, time_frequencies=3),
    "unet": UNet(channels=(4, 6), depth=1, heads=2, time_frequencies=3),
}
LONG = [pytest.param(name, marks=pytest.mark.slow) for name in ("dit", "unet")]  # they take most of a minute to compile
IMAGES = ("mixer", *LONG)
EVERY = pytest.mark.parametrize("name", ("mlp", "mixer", *LONG))


def random_parameters(net: Any, shape: tuple[int, ...] = SHAPE, classes: int = 0) -> tuple[Any, Any]:
    """(graph, params): every parameter drawn anew, the ones that begin at 0 too."""
    graph, shapes = structure(net, shape, classes=classes)
    draw = np.random.default_rng(0).standard_normal
    return graph, {name: jnp.asarray(0.3 * draw(x.shape), jnp.float32) for name, x in shapes.items()}


def image(seed: int = 0, shape: tuple[int, ...] = SHAPE) -> jax.Array:
    return jax.random.normal(jax.random.key(seed), shape)


@pytest.mark.parametrize(("patch", "overlap"), [(1, 0), (1, 1), (2, 1), (4, 0), (4, 4)])
def test_windows_are_the_images_own(patch: int, overlap: int) -> None:
    """Each token is a square of the image framed in zeros; tokens go row by row, in them rows, pixels, channels."""
    x = np.asarray(image(shape=(8, 12, 2)))
    framed = np.pad(x, ((overlap, overlap), (overlap, overlap), (0, 0)))
    side = patch + 2 * overlap
    squares = [framed[i : i + side, j : j + side].ravel() for i in range(0, 8, patch) for j in range(0, 12, patch)]
    np.testing.assert_array_equal(patchify(jnp.asarray(x), patch, overlap), squares)


def test_pasting_undoes_cutting() -> None:
    """Without overlap; with it every pixel comes back as often as windows cover it."""
    x = image()
    np.testing.assert_array_equal(unpatchify(patchify(x, 4, 0), SHAPE, 4, 0), x)
    covered = np.ones(8)
    covered[2:6] = 2  # two windows of 4 + 2 x 2 pixels overlap in the middle half
    expected = x * (covered[:, None] * covered)[..., None]
    np.testing.assert_allclose(unpatchify(patchify(x, 4, 2), SHAPE, 4, 2), expected, rtol=1e-6)


@pytest.mark.parametrize("name", IMAGES)
def test_a_fresh_network_predicts_nothing(name: str) -> None:
    """Its output is 0 exactly, so that a preconditioned field starts from the best linear prediction."""
    params = initialise(SMALL[name], SHAPE, jax.random.key(0))
    graph, _ = structure(SMALL[name], SHAPE)
    np.testing.assert_array_equal(apply(graph, params, image(), 0.3), np.zeros(SHAPE))


@pytest.mark.parametrize("name", IMAGES)
def test_three_steps_reach_every_parameter(name: str) -> None:
    """From its own start, where output, gates and modulations are 0: the third gradient has no zeros left but a label's
    that did not occur.
    """
    graph, _ = structure(SMALL[name], SHAPE, classes=2)
    params = initialise(SMALL[name], SHAPE, jax.random.key(0), 2)

    def loss(params: Any) -> jax.Array:
        labels = jnp.arange(3)
        outputs = jax.vmap(lambda seed, label: apply(graph, params, image(seed), 0.2 * label, label))(labels, labels)
        return jnp.mean((outputs - 1) ** 2)

    gradient = jax.jit(jax.grad(loss))
    for _ in range(3):
        slopes = gradient(params)
        params = jax.tree.map(lambda x, g: x - 0.5 * g, params, slopes)
    slopes = gradient(params)
    # softmax is blind to what all keys share, so that their bias has no slope but its rounding
    small = {key for key, g in slopes.items() if float(jnp.abs(g).max()) < 1e-9}
    assert {key for key in small if not key.endswith("key/bias")} == set()


@EVERY
def test_time_and_label_are_seen(name: str) -> None:
    """Another time and another label give another output; no label is the label `classes`."""
    graph, params = random_parameters(SMALL[name], classes=3)
    run = jax.jit(lambda t, label: apply(graph, params, image(), t, label))
    base = run(0.3, 1)
    for other in (run(0.4, 1), run(0.3, 2), run(0.3, 3)):
        assert float(jnp.abs(other - base).max()) > 1e-3
    np.testing.assert_allclose(apply(graph, params, image(), 0.3), run(0.3, 3), atol=1e-5)


@EVERY
def test_classes_add_one_table(name: str) -> None:
    """A vector a label and one for none; all other parameters, and their first values, are those without classes."""
    without = initialise(SMALL[name], SHAPE, jax.random.key(1))
    having = initialise(SMALL[name], SHAPE, jax.random.key(1), 3)
    table = having.pop("labels/embedding")
    assert len(table) == 4 and having.keys() == without.keys()
    assert {key: x.shape for key, x in having.items()} == {key: x.shape for key, x in without.items()}
    if name == "mlp":
        jax.tree.map(np.testing.assert_array_equal, having, without)
    graph, params = random_parameters(SMALL[name])
    np.testing.assert_array_equal(apply(graph, params, image(), 0.3, 1), apply(graph, params, image(), 0.3))


@EVERY
def test_points_do_not_see_each_other(name: str) -> None:
    """In a batch each point gets what it gets alone."""
    graph, params = random_parameters(SMALL[name], classes=3)
    x, t, label = jnp.stack([image(i) for i in range(3)]), jnp.array([0.1, 0.5, 0.9]), jnp.arange(3)
    together = jax.jit(jax.vmap(partial(apply, graph, params)))(x, t, label)
    alone = jax.jit(partial(apply, graph, params))
    for i in range(3):
        np.testing.assert_allclose(together[i], alone(x[i], t[i], label[i]), rtol=1e-4, atol=1e-4)


@EVERY
def test_bfloat16_is_close_and_not_equal(name: str) -> None:
    """The same float32 parameters with products in bfloat16: off by some of its 2^-8, in the points' own type."""
    graph, params = random_parameters(SMALL[name])
    half, _ = structure(SMALL[name], SHAPE, "bfloat16")
    full, rough = apply(graph, params, image(), 0.3), apply(half, params, image(), 0.3)
    error = float(jnp.linalg.norm(full - rough) / jnp.linalg.norm(full))
    assert rough.dtype == jnp.float32 and 2**-13 < error < 0.05


@EVERY
def test_float64_is_kept(name: str, x64: None) -> None:
    """Nothing on the way is rounded to float32."""
    params = random_parameters(SMALL[name])[1]
    exact, _ = structure(SMALL[name], SHAPE, "float64")
    params64 = {key: jnp.asarray(np.float64(x)) for key, x in params.items()}
    x = jnp.asarray(np.float64(np.random.default_rng(0).standard_normal(SHAPE)))
    run = partial(apply, exact, params64)
    output = run(x, 0.3)
    assert output.dtype == jnp.float64
    step = 1e-4 * jnp.asarray(
        np.random.default_rng(1).standard_normal(SHAPE)
    )  # the error of a central difference is its cube
    ahead, behind = run(x + step, 0.3), run(x - step, 0.3)
    slope = jax.jvp(lambda x: run(x, 0.3), (x,), (step,))[1]
    np.testing.assert_allclose((ahead - behind) / 2, slope, atol=1e-8)


@pytest.mark.parametrize("positions", ["none", "sincos", "learned"])
def test_dit_without_positions_knows_no_order(positions: str) -> None:
    """Patches permuted, the output's patches are permuted alike; with positions they are not."""
    graph, params = random_parameters(dataclasses.replace(SMALL["dit"], positions=positions))
    order = jnp.array([2, 0, 3, 1])

    def permuted(x: jax.Array) -> jax.Array:
        return unpatchify(patchify(x, 4, 0)[order], SHAPE, 4, 0)

    run = partial(apply, graph, params, t=0.3)
    difference = float(jnp.abs(run(permuted(image())) - permuted(run(image()))).max())
    assert difference < 1e-4 if positions == "none" else difference > 1e-2


def test_mixer_mixes_every_channel_alike_but_places_apart() -> None:
    """The order of patches matters to it, and a change of one pixel reaches every patch."""
    graph, params = random_parameters(SMALL["mixer"])
    run = partial(apply, graph, params, t=0.3)
    change = patchify(run(image().at[0, 0, 0].add(1.0)) - run(image()), 4, 0)
    assert float(jnp.abs(change).max(axis=1).min()) > 1e-3


def test_unet_moves_with_its_image() -> None:
    """Away from the edges a translation by the lowest level's pixel, of what is not zero, translates the output: a blank
    frame around a spot, and no attention, whose level is cut off by zero weights.
    """
    graph, params = random_parameters(UNet(channels=(4, 4), depth=1, heads=1), (64, 64, 1))
    params = {key: 0 * x if "out/" in key else x for key, x in params.items()}
    frame = jnp.zeros((64, 64, 1))
    spot = image(3, (4, 4, 1))
    run = jax.jit(partial(apply, graph, params, t=0.3))
    here, there = (run(frame.at[i : i + 4, 30:34].set(spot)) for i in (30, 32))
    np.testing.assert_allclose(here[27:37, 27:37], there[29:39, 27:37], atol=2e-3)
    odd = run(frame.at[31:35, 30:34].set(spot))
    assert float(jnp.abs(odd[28:38, 27:37] - here[27:37, 27:37]).max()) > 1e-2


def test_halving_undoes_doubling() -> None:
    np.testing.assert_allclose(halve(double(image())), image(), rtol=1e-6)
    assert float(halve(image()).mean()) == pytest.approx(float(image().mean()), abs=1e-6)


def test_convolution_is_flaxs() -> None:
    """On one image, as nnx.Conv makes it of a batch of one."""
    layer = nnx.Conv(2, 5, (3, 3), rngs=nnx.Rngs(0), bias_init=nnx.initializers.normal(1.0))
    np.testing.assert_allclose(convolve(layer, image(), "float32"), layer(image()[None])[0], atol=1e-5)


def test_norms_are_flaxs() -> None:
    x = 3 + 2 * image(shape=(4, 4, 32))
    group = nnx.GroupNorm(32, num_groups=8, rngs=nnx.Rngs(0))
    np.testing.assert_allclose(group_normalise(x), group(x[None])[0], atol=1e-4)
    layer = nnx.LayerNorm(32, rngs=nnx.Rngs(0))
    np.testing.assert_allclose(normalise(x), layer(x), atol=1e-4)


def test_attention_is_jaxs() -> None:
    q, k, v = (image(i, (7, 12)) for i in range(3))
    by_head = [each.reshape(7, 3, 4) for each in (q, k, v)]
    np.testing.assert_allclose(attention(q, k, v, 3), jax.nn.dot_product_attention(*by_head).reshape(7, 12), atol=1e-5)


def test_position_embeddings_have_the_published_frequencies() -> None:
    """sin and cos of place/10000^(2i/d) (1706.03762, section 3.5), d = 8 numbers of the 16 for the row, 8 for the column: at row
    3 and column 5 of 4 rows of 6 the angles are 3, 0.3, 0.03, 0.003 and 5, 0.5, 0.05, 0.005.
    """
    row, column = np.array([3, 0.3, 0.03, 0.003]), np.array([5, 0.5, 0.05, 0.005])
    expected = np.concatenate([np.sin(row), np.cos(row), np.sin(column), np.cos(column)])
    np.testing.assert_allclose(sincos_position_embedding(4, 6, 16)[3 * 6 + 5], expected, rtol=1e-12)


def test_position_embeddings_tell_places_apart() -> None:
    """Every place has the same norm, sqrt(width/2), and the product of two depends on their distance alone."""
    table = sincos_position_embedding(5, 6, 16)
    products = (table @ table.T).reshape(5, 6, 5, 6)
    np.testing.assert_allclose(np.diag(table @ table.T), 8)
    np.testing.assert_allclose(products[0, 0, 2, 3], products[2, 2, 4, 5])
    assert (products[0, 0].ravel()[1:] < 7.99).all()


def linear(inputs: int, outputs: int) -> int:
    return (inputs + 1) * outputs


def conv(inputs: int, outputs: int) -> int:
    return (9 * inputs + 1) * outputs


def test_counts_by_hand() -> None:
    """Weights and biases of the layers named in 2105.01601, 2212.09748 and 2006.11239, added up."""
    d = 64  # the mixer's tokens: 49 of them, windows of 8 x 8 pixels
    around = linear(32, d) + linear(d, d) + linear(64, d) + linear(d, 64) + linear(d, 2 * d)
    block = linear(d, 6 * d) + linear(49, 128) + linear(128, 49) + linear(d, 4 * d) + linear(4 * d, d)
    assert total(Mixer(patch=4, overlap=2, width=64, depth=4, mix=128, expand=4)) == around + 4 * block

    d = 256  # the transformer's: windows of 2 x 2
    around = linear(32, d) + linear(d, d) + linear(4, d) + linear(d, 4) + linear(d, 2 * d)
    block = linear(d, 6 * d) + 4 * linear(d, d) + linear(d, 4 * d) + linear(4 * d, d)
    assert total(DiT(patch=2, width=256, depth=6, heads=4)) == around + 6 * block
    assert total(DiT(patch=2, width=256, depth=6, heads=4, positions="learned")) == around + 6 * block + 196 * d

    def residual(m: int, n: int, attention: bool) -> int:
        skip = linear(m, n) if m != n else 0
        return conv(m, n) + conv(n, n) + linear(4 * 8, 2 * (m + n)) + skip + (4 * linear(n, n) if attention else 0)

    ways = residual(8, 8, False) + residual(8, 16, True) + residual(16, 16, True)  # down, down, between
    ways += residual(16 + 16, 16, True) + residual(16 + 8, 8, False)
    around = linear(32, 32) + linear(32, 32) + conv(1, 8) + conv(8, 1) + linear(32, 16)
    assert total(UNet(channels=(8, 16), depth=1, heads=2)) == around + ways


def total(net: Any) -> int:
    return count(structure(net, (28, 28, 1))[1])


@pytest.mark.parametrize(
    ("net", "shape", "says"),
    [
        (Mixer(patch=3), (28, 28, 1), "net.patch is 3, which does not divide an image of 28 x 28; take one of 1, 2, 4"),
        (DiT(patch=4), (8, 6, 1), "net.patch is 4, which does not divide an image of 8 x 6; take one of 1, 2"),
        (UNet(channels=(4, 4, 4, 4)), (28, 28, 1), "4 levels, .* multiples of 8, and an image is 28 x 28"),
        (Mixer(), (2,), r"mixer is for images .*, and a point has shape \(2,\); take mlp"),
        (UNet(), (5, 5), "unet is for images"),
    ],
)
def test_images_that_do_not_fit_are_refused(net: Any, shape: tuple[int, ...], says: str) -> None:
    with pytest.raises(UserError, match=says) as error:
        structure(net, shape)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("net", "says"),
    [
        (Mixer(patch=0), "patch is 0; it must be 1 or more"),
        (Mixer(overlap=5), r"overlap is 5; it must be in 0..4"),
        (DiT(overlap=-1), "overlap is -1"),
        (DiT(heads=3), "heads is 3; it must divide width=256"),
        (DiT(width=6, heads=1), "width is 6; positions=sincos needs a multiple of 4"),
        (DiT(positions="rope"), "positions is 'rope'; choose one of sincos, learned, none"),
        (Mixer(time_frequencies=-1), "time_frequencies is -1"),
        (UNet(channels=()), "channels is"),
        (UNet(heads=3), "heads is 3; it must divide the last level's 64 channels"),
    ],
)
def test_checks_refuse_bad_numbers(net: Any, says: str) -> None:
    with pytest.raises(UserError, match=says):
        check(net)


@pytest.mark.parametrize("name", IMAGES)
def test_defaults_pass_their_check(name: str) -> None:
    check(NETS[name]())


def test_auto_is_chosen_by_points_and_machine() -> None:
    """Few coordinates get the default MLP, many one with a gated skip and no Fourier features; images a mixer on CPU and a U-Net
    elsewhere, that fit them whatever their size.
    """
    for backend in ("cpu", "gpu"):
        assert choose_net(Auto(), (2,), None, backend) == choose_net(Auto(), (4,), 100, backend) == MLP()
        for shape in ((5,), (100,), (4, 5)):
            many = choose_net(Auto(), shape, 2000, backend)
            assert isinstance(many, MLP) and many.gated_skip == math.prod(shape) and many.space_frequencies == 0
    assert choose_net(Auto(), (28, 28, 1), 60_000, "cpu") == Mixer()
    assert choose_net(Auto(), (28, 28, 1), 60_000, "gpu") == UNet()
    chosen = DiT(depth=1)
    assert choose_net(chosen, (2,), None, "cpu") is chosen
    for backend in ("cpu", "tpu"):
        for shape in ((8, 8, 1), (7, 9, 3), (32, 32, 3), (30, 20, 1), (1, 1, 1)):
            structure(choose_net(Auto(), shape, None, backend), shape)


def test_auto_is_narrower_for_few_points() -> None:
    """A unit of the two hidden layers for 64 points, from 32 to 128; the skip's rank stops at 256."""
    for points, width in ((None, 128), (10**6, 128), (8192, 128), (6400, 100), (2000, 32), (10, 32)):
        assert choose_net(Auto(), (100,), points, "cpu") == MLP((width, width), space_frequencies=0, gated_skip=100)
    assert choose_net(Auto(), (1000,), None, "cpu").gated_skip == 256  # type: ignore[attr-defined]


def test_auto_keeps_what_it_is_given() -> None:
    """Fields of the mlp that are given hold, for images too; the others follow the points."""
    assert choose_net(Auto(widths=(16,), space_frequencies=0), (2,), None, "cpu") == MLP((16,), space_frequencies=0)
    assert choose_net(Auto(gated_skip=0), (50,), None, "cpu") == MLP((128, 128), space_frequencies=0)
    assert choose_net(Auto(widths=(16,)), (8, 8, 1), None, "cpu") == MLP((16,), space_frequencies=0, gated_skip=64)
    with pytest.raises(UserError, match="activation is 'sulu'"):
        check(Auto(activation="sulu"))
