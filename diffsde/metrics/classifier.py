"""A small convolutional network that tells a dataset's classes apart, for its features and for labels that were asked for."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from diffsde.datasets.dataset import Examples
from diffsde.datasets.finite import as_points, mirrored
from diffsde.nets.layers import gelu
from diffsde.nets.patches import patchify
from diffsde.optimizers import AdamW
from diffsde.types import Array, Key, choice

Params = dict[str, Array]

STRIDE = 2  # of both convolutions
SIDE = 32  # pixels: larger images are made smaller, and every side a multiple of 4
PART = 500  # images whose features are computed together


@choice
class Recipe:
    """All that determines a classifier besides the data and the version of this file.

    channels of the two convolutions, 6 x 6 and 4 x 4 with stride 2; features of the dense layer after them; AdamW with
    the cosine schedule for `steps` batches, each moved by up to a pixel. 99.2 to 99.3% on MNIST.
    """

    channels: tuple[int, ...] = (16, 32)
    overlaps: tuple[int, ...] = (2, 1)
    features: int = 64
    steps: int = 2500
    batch_size: int = 128
    shift: int = 1
    lr: float = 6e-3
    weight_decay: float = 0.05
    seed: int = 0


VERSION = 1  # of what is computed here from a recipe


class Fit(NamedTuple):
    """A classifier in training."""

    params: Params
    opt_state: Any


def seen_shape(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """How the classifier sees images (H, W, C): sides of 4 to 32 pixels that 4 divides, the nearest to the image's."""
    height, width = (max(4, 4 * round(min(side, SIDE * side / max(shape[:2])) / 4)) for side in shape[:2])
    return height, width, shape[2]


@jax.jit
def seen(x: Array) -> Array:
    """Images in bytes (n, H, W, C) in the size in which the classifier sees them, bytes again."""
    shape = seen_shape(x.shape[1:])
    if shape == x.shape[1:]:
        return x

    def resized(image: Array) -> Array:
        smaller = jax.image.resize(image.astype(jnp.float32), shape, "linear", antialias=True)
        return jnp.clip(jnp.round(smaller), 0, 255).astype(jnp.uint8)

    return jax.lax.map(resized, x, batch_size=PART)


def initialise_classifier(recipe: Recipe, shape: tuple[int, int, int], classes: int) -> Fit:
    """Fresh parameters (He's, 1502.01852) for images that are seen as `shape`."""
    (height, width, depth), (first, second) = shape, recipe.channels
    windows = [(STRIDE + 2 * overlap) ** 2 for overlap in recipe.overlaps]
    flat = height // STRIDE**2 * (width // STRIDE**2) * second
    sizes = {
        "first": (windows[0] * depth, first),
        "second": (windows[1] * first, second),
        "dense": (flat, recipe.features),
        "head": (recipe.features, classes),
    }
    keys = jax.random.split(jax.random.key(recipe.seed), len(sizes))
    params = {}
    for key, (name, (inputs, outputs)) in zip(keys, sizes.items(), strict=True):
        params[f"{name}/kernel"] = math.sqrt(2 / inputs) * jax.random.normal(key, (inputs, outputs), jnp.float32)
        params[f"{name}/bias"] = jnp.zeros(outputs, jnp.float32)
    return Fit(params, _optimizer(recipe).init(params))


def _optimizer(recipe: Recipe) -> Any:
    return AdamW(lr=recipe.lr, warmup=50.0, weight_decay=recipe.weight_decay).transform(float(recipe.steps))


def features(recipe: Recipe, params: Params, x: Array) -> Array:
    """(features,) of one image x (H, W, C) in [-1, 1], H and W multiples of 4.

    Convolutions as products of windows: XLA's own are several times slower on CPU. The features are smooth (gelu), since
    a third of them were 0 on every image otherwise.
    """

    def layer(name: str, h: Array) -> Array:
        return h @ params[f"{name}/kernel"] + params[f"{name}/bias"]

    h = x
    for name, overlap in zip(("first", "second"), recipe.overlaps, strict=True):
        rows, columns = h.shape[0] // STRIDE, h.shape[1] // STRIDE
        h = jax.nn.relu(layer(name, patchify(h, STRIDE, overlap))).reshape(rows, columns, -1)
    return gelu(layer("dense", h.ravel()))


def logits(params: Params, found: Array) -> Array:
    """(classes,) from features (features,)."""
    return found @ params["head/kernel"] + params["head/bias"]


@partial(jax.jit, static_argnames="flip", donate_argnames="fit")
def train_classifier(recipe: Recipe, fit: Fit, examples: Examples, begin: Array, count: Array, flip: bool) -> Fit:
    """`count` steps from step `begin` on; flip: half of the batches are mirrored."""
    assert examples.y is not None
    labels, optimizer, key = examples.y, _optimizer(recipe), jax.random.fold_in(jax.random.key(recipe.seed), 1)

    def loss(params: Params, x: Array, y: Array) -> Array:
        scores = jax.vmap(lambda x: logits(params, features(recipe, params, x)))(x)
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(scores), y[:, None], axis=1))

    def step(i: Array, fit: Fit) -> Fit:
        rows, *moves, turn = jax.random.split(jax.random.fold_in(key, i), 4)
        row = jax.random.randint(rows, (recipe.batch_size,), 0, len(examples.x))
        x = as_points(examples.x[row])
        if flip:
            x = jnp.where(jax.random.bernoulli(turn), mirrored(x), x)
        gradients = jax.grad(loss)(fit.params, moved(x, moves, recipe.shift), labels[row])
        updates, opt_state = optimizer.update(gradients, fit.opt_state, fit.params)
        return Fit(jax.tree.map(jnp.add, fit.params, updates), opt_state)

    return jax.lax.fori_loop(begin, begin + count, step, fit)


def moved(x: Array, keys: list[Key], by: int) -> Array:
    """A batch (n, H, W, C) moved by up to `by` pixels each way, all alike; what comes in from the edge repeats it."""
    around = jnp.pad(x, ((0, 0), (by, by), (by, by), (0, 0)), mode="edge")
    start = [jax.random.randint(key, (), 0, 2 * by + 1) for key in keys]
    return jax.lax.dynamic_slice(around, (0, *start, 0), x.shape)


@jax.jit
def examine(recipe: Recipe, params: Params, x: Array) -> tuple[Array, Array]:
    """Features (n, features) and the likeliest class (n,) of images in bytes (n, H, W, C), as they are seen."""

    def one(image: Array) -> tuple[Array, Array]:
        found = features(recipe, params, as_points(image))
        return found, jnp.argmax(logits(params, found))

    return jax.lax.map(one, x, batch_size=PART)
