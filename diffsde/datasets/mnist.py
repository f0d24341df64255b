"""MNIST and Fashion-MNIST: 28 x 28 images of ten classes, from their original files, downloaded where they are absent."""

from __future__ import annotations

import os
import shlex
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import jax.numpy as jnp
import numpy as np

from diffsde import named_files
from diffsde.datasets.dataset import Examples, stamp
from diffsde.datasets.downloads import download
from diffsde.datasets.finite import FiniteDataset
from diffsde.datasets.idx import IdxFile, read_idx
from diffsde.errors import UserError
from diffsde.types import choice

SLACK = 2**16  # bytes that a gzipped file may have beyond the file itself


class Collection(NamedTuple):
    """name, where its files are, and its images and labels for training and for tests."""

    name: str
    mirrors: tuple[str, ...]
    train: tuple[IdxFile, IdxFile]
    test: tuple[IdxFile, IdxFile]


def _collection(name: str, mirrors: tuple[str, ...], digests: tuple[str, str, str, str]) -> Collection:
    images, labels = "images-idx3-ubyte", "labels-idx1-ubyte"
    return Collection(
        name,
        mirrors,
        (
            IdxFile(f"train-{images}", (60_000, 28, 28), digests[0]),
            IdxFile(f"train-{labels}", (60_000,), digests[1]),
        ),
        (IdxFile(f"t10k-{images}", (10_000, 28, 28), digests[2]), IdxFile(f"t10k-{labels}", (10_000,), digests[3])),
    )


DIGITS = _collection(
    "mnist",
    ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"),
    (
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    ),
)
# The repository gives the md5 of each gzipped file: 8d4fb7e6c68d591d4c3dfef9ec88bf0d, 25c81989df183df01b3e8a0aad5dffbe,
# bef4ecab320f06d8554ea6380940ec79, bb300cfdad3c16e7a12a480ee83cd310; these are of the same files uncompressed.
FASHION = _collection(
    "fashion_mnist",
    (
        "https://fashion-mnist.s3.eu-central-1.amazonaws.com/",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    ),
    (
        "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    ),
)


class CollectionDataset(FiniteDataset):
    """The images of one collection."""

    collection: ClassVar[Collection]
    data_dir: str | None

    def load(self) -> Examples:
        return load_files(self.collection, self.collection.train, self.data_dir)

    @property
    def has_test(self) -> bool:
        return True

    def held_out(self) -> Examples:
        return load_files(self.collection, self.collection.test, self.data_dir)


@choice
class MNIST(CollectionDataset):
    """mnist: handwritten digits of LeCun, Cortes and Burges; 60,000 images (28, 28, 1), 10,000 more for tests.

    data_dir: the folder of the four files, gzipped or not; None: $DIFFSDE_DATA or its subfolder of the dataset's name, or
    where there is none diffsde/mnist in the user's data folder. Files that are absent are downloaded there, unless it is a run's folder alone that names the data.
    """

    collection: ClassVar[Collection] = DIGITS

    data_dir: str | None = None
    flip: bool = False
    dequantise: bool = False
    conditional: bool = False


@choice
class FashionMNIST(CollectionDataset):
    """fashion_mnist: articles of clothing (1708.07747), in MNIST's numbers and format; data_dir as there."""

    collection: ClassVar[Collection] = FASHION

    data_dir: str | None = None
    flip: bool = False
    dequantise: bool = False
    conditional: bool = False


def load_files(collection: Collection, files: tuple[IdxFile, IdxFile], data_dir: str | None) -> Examples:
    """Images and labels from the first folder that has each file, all that is absent downloaded first, unless only a run's folder
    names them.
    """
    folders = places(collection.name, data_dir)
    if any(_found(file, folders) is None for file in files):
        if not named_files.may_download(collection.name, data_dir):
            raise UserError(_left_absent(collection, folders[0], data_dir))
        _download(collection, folders)
    paths = [_found(file, folders) for file in files]
    assert all(paths)
    return _read(collection, files, stamp(path for path in paths if path))


def places(name: str, data_dir: str | None) -> list[Path]:
    """The folders where a collection's files are looked for; what is downloaded goes to the first."""
    if data_dir is not None:
        return [Path(data_dir).expanduser()]
    if shared := os.environ.get("DIFFSDE_DATA"):
        return [Path(shared).expanduser() / name, Path(shared).expanduser()]
    home = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return [Path(home) / "diffsde" / name]


def _found(file: IdxFile, folders: list[Path]) -> Path | None:
    candidates = [folder / name for folder in folders for name in (f"{file.name}.gz", file.name)]
    return next((path for path in candidates if path.is_file()), None)


def _download(collection: Collection, folders: list[Path]) -> None:
    for file in (*collection.train, *collection.test):
        if _found(file, folders) is None:
            try:
                check = partial(read_idx, file=file, known=_known(collection))
                download(f"{file.name}.gz", folders[0], collection.mirrors, check, file.size + SLACK)
            except OSError as error:
                names = ", ".join(f"{one.name}.gz" for one in (*collection.train, *collection.test))
                looked = " and ".join(f"'{folder}'" for folder in folders)
                raise UserError(
                    f"dataset: there is no {file.name}[.gz] in {looked}, and it could not be downloaded; put {names} in"
                    f" '{folders[0]}', or say dataset.data_dir= ({error})"
                ) from None


def _left_absent(collection: Collection, folder: Path, data_dir: str | None) -> str:
    """Why files that a run's folder names are not downloaded, and the command that does."""
    words = [f"dataset={collection.name}", *([f"dataset.data_dir={data_dir}"] if data_dir is not None else [])]
    return (
        f"dataset: files of {collection.name} are absent from '{folder}', where the run's config.json has them, and nothing is"
        f" downloaded to where a folder says; put them there, or say it yourself: {shlex.join(['diffsde', 'show', 'what=data', *words])}"
    )


def _known(collection: Collection) -> dict[str, str]:
    """What a file that is in another's place may be, by its sha256."""
    every = [(one.name, file) for one in (DIGITS, FASHION, collection) for file in (*one.train, *one.test)]
    return {file.sha256: f"{file.name} of {name}" for name, file in every}


@lru_cache(maxsize=4)
def _read(collection: Collection, files: tuple[IdxFile, IdxFile], stamps: tuple[tuple[Any, ...], ...]) -> Examples:
    values = []
    for file, (path, *_) in zip(files, stamps, strict=True):
        try:
            values.append(read_idx(Path(path), file, _known(collection)))
        except ValueError as error:
            raise UserError(
                f"dataset={collection.name}: '{path}' {error}; replace it, or say dataset.data_dir= of a folder where it is"
                " right, or absent: then it is downloaded"
            ) from None
    return Examples(jnp.asarray(values[0][..., None]), jnp.asarray(values[1].astype(np.int32)))
