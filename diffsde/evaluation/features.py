"""The classifier of a dataset, whose features metrics use: trained once, and cached under a hash of everything it depends on."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from diffsde.datasets import Examples
from diffsde.errors import UserError
from diffsde.metrics import classifier
from diffsde.metrics.classifier import Params, Recipe
from diffsde.runs import progress
from diffsde.runs.sealed_arrays import Damaged, read_sealed, write_sealed

LOG_EVERY = 250  # steps per dispatch and line of progress


class Judge(NamedTuple):
    """A trained classifier; name: the dataset's name and a hash."""

    name: str
    recipe: Recipe
    params: Params

    def look(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Features (n, features) and the most probable class (n,) of images in bytes (n, H, W, C)."""
        found = classifier.examine(self.recipe, self.params, classifier.seen(jnp.asarray(images)))
        return np.asarray(found[0]), np.asarray(found[1])


def judge(
    dataset: str, examples: Examples, flip: bool = False, cache: Path | None = None, recipe: Recipe | None = None
) -> Judge:
    """The classifier of labelled images in bytes: read from the cache, or trained now and cached.

    cache: the folder of classifiers; None: no cache. flip: train on mirrored images too. Raises UserError for a single class.
    """
    assert examples.y is not None
    recipe = recipe or Recipe()
    classes = int(np.asarray(examples.y).max()) + 1
    if classes < 2:
        raise UserError("dataset: all labels are the same; there are no classes to tell apart")
    name = f"{dataset}-{fingerprint(recipe, examples, flip)[:10]}"
    fresh = classifier.initialise_classifier(recipe, classifier.seen_shape(examples.x.shape[1:]), classes)
    file = cache and cache / f"{name}.npz"
    if file and (params := read_classifier(file, fresh.params)) is not None:
        return Judge(name, recipe, params)
    params = train(recipe, fresh, examples._replace(x=classifier.seen(examples.x)), flip)
    if file:
        keep(file, params)
    return Judge(name, recipe, params)


def fingerprint(recipe: Recipe, examples: Examples, flip: bool) -> str:
    """A hash of everything that the parameters depend on, except the machine's rounding."""
    digest = hashlib.sha256(repr((classifier.VERSION, recipe, flip, examples.x.shape)).encode())
    for values in examples:
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def train(recipe: Recipe, fit: classifier.Fit, examples: Examples, flip: bool) -> Params:
    """The parameters of a classifier trained on labelled images, with progress shown."""
    with progress.Steps("classifier", recipe.steps) as steps:
        for begin in range(0, recipe.steps, LOG_EVERY):
            count = min(LOG_EVERY, recipe.steps - begin)
            arguments = recipe, fit, examples, jnp.int32(begin), jnp.int32(count)
            fit = jax.block_until_ready(classifier.train_classifier(*arguments, flip=flip))
            steps.update(begin + count)
    return fit.params


def keep(file: Path, params: Params) -> None:
    """Write the parameters and their hash to the cache; warns where the cache cannot be written."""
    try:
        write_sealed(file, {name: np.asarray(value) for name, value in params.items()})
    except OSError as error:
        progress.warn(
            f"the classifier cannot be kept in '{file.parent}': {error.strerror}; it is trained again next time"
        )


def read_classifier(file: Path, like: Params) -> Params | None:
    """The parameters in a cache file; None where the file is absent or, with a warning, damaged."""
    try:
        values = read_sealed(file)
        whole = {name: (value.shape, value.dtype) for name, value in values.items()}
        if whole == {name: (value.shape, value.dtype) for name, value in like.items()}:
            return {name: jnp.asarray(value) for name, value in values.items()}
        reason = "it is of another network"
    except FileNotFoundError:
        return None
    except Damaged as error:
        reason = str(error)
    progress.warn(f"the classifier in '{file}' cannot be read ({reason}); it is trained again")
    return None
