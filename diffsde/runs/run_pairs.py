"""The pairs of coupling=run, made by a trained run and cached; and those of coupling=pairs, read from the user's files."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np

from diffsde.array_archives import names_in, read_npz
from diffsde.build import as_config
from diffsde.couplings.pairs import HELD_OUT, FilePairs, PairSet, RunPairs, pair_set
from diffsde.datasets import Dataset, point_shape
from diffsde.datasets.arrays import ArrayFile
from diffsde.datasets.dataset import draw_many
from diffsde.datasets.finite import as_points
from diffsde.datasets.normal import StandardNormal
from diffsde.datasets.scaling import Scaling, same_scaling, to_model, to_own
from diffsde.errors import Unreadable, UserError, first_line
from diffsde.fields import ENDS_ALONE
from diffsde.runs import progress
from diffsde.runs.pairs import Carrying, Ends, carried_pairs
from diffsde.runs.restore import restore
from diffsde.runs.sealed_arrays import Damaged, read_sealed, write_sealed
from diffsde.types import Key

COMPARED = 4000  # points of an end whose mean and std the pairs of a file are held against
FAR = 3.0  # stds between means, or between stds their ratio: beyond it pairs are of other points than the end's
FEW = 20
VERSION = 2  # of how pairs are made: another makes other pairs of the same run


def pairs_of_run(coupling: RunPairs, ends: Ends, key: Key, cache: Path | None) -> PairSet:
    """The pairs that a trained run makes: read from the cache, or made now and cached. Raises UserError."""
    place = Path(coupling.run)
    trained, field, step = restore(place, which=coupling.checkpoint)
    check_same_ends(place, trained.source, trained.dataset, ends)
    if not field.knows_velocity:
        raise UserError(f"coupling.run: '{place}': {ENDS_ALONE}, and pairs are made by an ODE; take another run")
    if coupling.sigma and not field.knows_score:
        raise UserError(
            f"coupling.sigma is {coupling.sigma:g}, and the SDE needs a score, which '{place}' did not learn; take"
            " coupling.sigma=0, or a run of objective=cfm+score"
        )
    if ends.dataset.conditional and not field.classes:
        raise UserError(f"coupling.run: '{place}' knows no labels, which dataset.conditional=true needs")
    of = f"{coupling.pairs:,} pairs by {progress.shown_path(place)} at step {step}"
    file = cache and cache / "pairs" / f"{fingerprint(coupling, field, ends, key)[:16]}.npz"
    if file and (kept := kept_pairs(file)) is not None:
        progress.say(f"coupling: {of}, from the cache")
        return kept
    how = Carrying(coupling.steps, coupling.sigma)
    with progress.working(f"making {of}"):
        made = carried_pairs(field, ends, how, coupling.pairs, key)
        jax.block_until_ready(made.z)
    if not np.isfinite(np.asarray(made.z)).all():
        raise UserError(f"coupling.run: '{place}' carries some points to no finite place; take more coupling.steps")
    if file:
        try:
            keep_pairs(file, made)
        except OSError as error:
            progress.warn(
                f"the pairs cannot be kept in '{file.parent}': {error.strerror}; they are made again next time"
            )
    progress.say(f"coupling: {of}" + (f", SDE of sigma {coupling.sigma:g}" if coupling.sigma else ", by its ODE"))
    return made


def teacher_of(coupling: RunPairs) -> str:
    """A hash of how pairs are made: of the parameters and the path of the run that makes them, and of VERSION. Raises UserError."""
    _, field, _ = restore(Path(coupling.run), which=coupling.checkpoint)
    digest = hashlib.sha256(json.dumps([as_config(field.path), VERSION], default=float, sort_keys=True).encode())
    for leaf in jax.tree.leaves(field):
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()


def fingerprint(coupling: RunPairs, field: Any, ends: Ends, key: Key) -> str:
    """A hash of everything that pairs depend on, except the machine's rounding: not of the folder's name."""
    about = {name: value for name, value in as_config(coupling).items() if name not in ("run", "checkpoint")}
    told = [about, as_config(field.path), VERSION, np.asarray(jax.random.key_data(key)).tolist()]
    digest = hashlib.sha256(json.dumps(told, default=float, sort_keys=True).encode())
    for leaf in jax.tree.leaves((field, ends.source_arrays, ends.arrays)):
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()


def check_same_ends(place: Path, source: Dataset | None, dataset: Dataset, ends: Ends) -> None:
    """Raise UserError unless a run's source and data are those of this run, in the same units."""
    mine = None if isinstance(ends.source, StandardNormal) else ends.source
    for name, theirs, own in (("source", source, mine), ("dataset", dataset, ends.dataset)):
        if described(theirs) != described(own):
            raise UserError(
                f"coupling.run: '{place}' was trained on another {name}; take the same {name}= here, or another run"
            )
    shape = point_shape(ends.dataset, ends.arrays)
    if not same_scaling(dataset.scaling(shape), ends.dataset.scaling(shape)):
        raise UserError(
            f"coupling.run: the data of '{place}' had another mean and std; make the pairs by a run on these data"
        )


def described(dataset: Dataset | None) -> Any:
    """What a law is, apart from where its files lie and from labels; None for noise."""
    if dataset is None:
        return None
    inner = getattr(dataset, "inner", dataset)
    apart = (
        {*inner.FILES, "mean", "std", "standardise", "conditional"} if isinstance(inner, ArrayFile) else {"conditional"}
    )
    return {name: value for name, value in as_config(inner).items() if name not in apart}


def keep_pairs(file: Path, pairs: PairSet) -> None:
    """Write joint pairs with their hash. Raises OSError."""
    arrays = {"y": np.asarray(pairs.y), "z": np.asarray(pairs.z)}
    write_sealed(file, arrays | ({} if pairs.label is None else {"label": np.asarray(pairs.label)}))


def kept_pairs(file: Path) -> PairSet | None:
    """The joint pairs of a file of the cache; None where it is absent or, with a warning, damaged."""
    try:
        return read_pairs(file)
    except FileNotFoundError:
        return None
    except Damaged as error:
        progress.warn(f"the pairs in '{file}' cannot be read ({error}); they are made again")
        return None


def read_pairs(file: Path) -> PairSet:
    """The joint pairs of a file of `keep_pairs`. Raises Damaged and FileNotFoundError."""
    arrays = read_sealed(file)
    if not {"y", "z"} <= arrays.keys():
        raise Damaged("it holds no pairs")
    return pair_set(arrays["y"], arrays["z"], arrays.get("label"), held_out=HELD_OUT)


def pairs_of_files(coupling: FilePairs, ends: Ends) -> PairSet:
    """The pairs of coupling=pairs: of one file with y and z, or row by row of the two ends' own files. Raises UserError."""
    if coupling.file:
        return pairs_of_file(coupling.file, ends)
    for name, law in (("source", ends.source), ("dataset", ends.dataset)):
        if not isinstance(getattr(law, "inner", law), ArrayFile):
            raise UserError(
                f"coupling=pairs takes row i of two files, source=array and dataset=array, and {name} is none; or give"
                " coupling.file=FILE.npz with arrays y (source) and z (data)"
            )
        if law.has_test:
            raise UserError(
                f"{name}.test keeps rows back, so that rows of the two files no longer pair up; leave it out"
            )
    y, z = as_points(ends.source_arrays.x), as_points(ends.arrays.x)
    if len(y) != len(z):
        raise UserError(
            f"coupling=pairs pairs row i of both files, and the source has {len(y)} rows, the data {len(z)}; they must be as many"
        )
    progress.say(f"pairs: {len(y):,}, row by row of source and data")
    return pair_set(y, z, ends.arrays.y)


def pairs_of_file(file: str, ends: Ends) -> PairSet:
    """The pairs y and z of an .npz, in the data's own units there."""
    y, z = read_pair_arrays(file)
    shape = point_shape(ends.dataset, ends.arrays)
    for name, points in (("y", y), ("z", z)):
        if (
            points.dtype.kind not in "fiu"
            or points.shape[1:] != shape
            or len(points) < 2
            or not np.isfinite(points).all()
        ):
            raise UserError(
                f"coupling.file: '{file}' has {name} of {points.dtype} and shape {points.shape}; it must be finite numbers of"
                f" shape (n, {', '.join(map(str, shape))}), n at least 2"
            )
    if len(y) != len(z):
        raise UserError(f"coupling.file: '{file}' has {len(y)} rows of y and {len(z)} of z; they must be as many")
    if ends.dataset.conditional:
        raise UserError("coupling.file has no labels, which dataset.conditional=true needs; pair two files row by row")
    scaling = ends.dataset.scaling(shape)
    for name, points, end, law, arrays in (
        ("y", y, "source", ends.source, ends.source_arrays),
        ("z", z, "data", ends.dataset, ends.arrays),
    ):
        drawn = draw_many(law, arrays, jax.random.key(0), COMPARED)
        check_scale(f"coupling.file: {name} of '{file}'", points, end, np.asarray(drawn), scaling)
    progress.say(f"pairs: {len(y):,} of {progress.shown_path(Path(file))}")
    return pair_set(to_model(scaling, y), to_model(scaling, z))


def check_scale(what: str, points: np.ndarray, end: str, drawn: np.ndarray, scaling: Scaling | None) -> None:
    """Raise UserError where points, in the data's own units, have a mean or std far from those of `drawn`, in the model's."""
    ours, theirs = (np.asarray(each, np.float64) for each in (to_model(scaling, points), drawn))
    std, wanted = (float(np.sqrt(each.var(axis=0).mean())) for each in (ours, theirs))
    off = float(np.sqrt(np.mean((ours.mean(axis=0) - theirs.mean(axis=0)) ** 2)))
    spread = len(points) < FEW or wanted / FAR <= std <= FAR * wanted  # the std of few points is too rough to judge by
    if off <= FAR * wanted and spread:
        return
    has, wants = (
        f"mean {x.mean():.4g}, std {np.sqrt(x.var(axis=0).mean()):.3g}" for x in (points, to_own(scaling, drawn))
    )
    raise UserError(
        f"{what} has {has}, and the {end} {wants} (all coordinates together): it must be in the {end}'s own units, points of the {end}"
    )


def read_pair_arrays(file: str) -> tuple[np.ndarray, np.ndarray]:
    """The arrays y and z of an .npz. Raises UserError."""
    wanted = "it must be an .npz with arrays y (source) and z (data), a pair per row"
    if not Path(file).is_file():
        raise UserError(f"coupling.file: '{file}' is not a file; {wanted}")
    try:
        there = names_in(Path(file))
        if not {"y", "z"} <= {*there}:
            raise UserError(f"coupling.file: '{file}' holds {', '.join(there) or 'nothing'}; {wanted}")
        found = read_npz(Path(file), lambda names: ("y", "z"))
        return found["y"], found["z"]
    except (Unreadable, OSError) as error:
        raise UserError(f"coupling.file: '{file}' cannot be read: {first_line(error)}; {wanted}") from None
