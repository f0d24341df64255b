"""A folder of images of your own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from diffsde.datasets.dataset import Examples, Source, stamp
from diffsde.datasets.finite import FiniteDataset
from diffsde.datasets.held_out import split_rows
from diffsde.datasets.image_files import decode, look
from diffsde.datasets.natural_order import naturally
from diffsde.datasets.streaming import gather, part
from diffsde.errors import UserError
from diffsde.knobs import is_number
from diffsde.types import choice

ENDINGS = (".png", ".jpg", ".jpeg")
SHOWN = 5  # kinds of files that are left out


@choice
class ImageFolder(FiniteDataset):
    """image_folder: the .png, .jpg and .jpeg files of a folder; where it has subfolders, each is a class, in
    natural order (1, 2, 10).

    size: cut to the square in the middle and scaled to size x size; None: as they are, all equal. Grey where every file is
    saved as grey, else colour. What is transparent is laid over white, and cameras' notes of what is up are heeded.
    test: images that are kept from training, a folder of the same classes, or the share of them that is set apart at random.
    stream: only the files' headers are read at first, and each image when training comes to it.
    """

    FILES: ClassVar[tuple[str, ...]] = ("folder", "test")

    folder: str = ""
    size: int | None = None
    test: str = ""
    flip: bool = False
    dequantise: bool = False
    conditional: bool = False
    stream: bool = False

    def check(self) -> None:
        if not self.folder:
            raise ValueError("folder is not given; say dataset.folder=my_images")

    def load(self) -> Examples:
        found = self._stamped()
        if self.test:
            _held_out(self, *found)  # an image that does not fit is said before anything is trained
        return _load(self, *found)

    def source(self) -> Source:
        return _sources(self, *self._stamped())[0]

    @property
    def has_test(self) -> bool:
        return bool(self.test)

    def held_out(self) -> Examples:
        if not self.test:
            raise UserError(
                "dataset=image_folder has no test split; say dataset.test=0.1 (the share of the images) or =FOLDER"
            )
        return _held_out(self, *self._stamped())

    def classes(self, arrays: Examples) -> int:
        if is_number(self.test):  # every image of a class may be kept from training
            return self.source().classes
        return super().classes(arrays)

    def class_names(self) -> tuple[str, ...]:
        return _files(self.folder).classes

    def notes(self) -> tuple[str, ...]:
        found, *tests = self._found()
        alone = f"there is one class alone, {found.classes[0]}" if len(found.classes) == 1 else ""
        said = [f"in '{self.test}' {note}" for each in tests if (note := _left_out(each.others))]
        if found.labels is not None:
            there = np.asarray(found.labels)[_split(self, len(found.images))[0]]
            lost = [name for label, name in enumerate(found.classes) if label not in there]
            said += [f"every image of the class {name} is kept from training" for name in lost]
        return tuple(note for note in (_left_out(found.others), alone, *said) if note)

    def about(self, arrays: Examples) -> dict[str, Any]:
        return super().about(arrays) | {"from": self.folder}

    def _found(self) -> tuple[Found, ...]:
        """What there is in the folder, and in that of the test images where they have one. Raises UserError for other classes."""
        found = _files(self.folder)
        if not self.test or is_number(self.test):
            return (found,)
        tests = _files(self.test, "test")
        for name in [*tests.classes, *found.classes]:
            if name not in found.classes or name not in tests.classes:
                which = "no class" if name in found.classes else "a class"
                raise UserError(
                    f"dataset.test: '{self.test}' has {which} '{name}', unlike '{self.folder}'; their subfolders must have"
                    " the same names"
                )
        return found, tests

    def _stamped(self) -> tuple[Stamped, ...]:
        return tuple(Stamped(stamp(found.images), found.labels) for found in self._found())


class Stamped(NamedTuple):
    """The images of a folder by their stamps, which are others when a file has changed, and the class of each."""

    stamps: tuple[tuple[Any, ...], ...]
    labels: tuple[int, ...] | None


class Found(NamedTuple):
    """The images of a folder, sorted; the class of each and the classes' names where there are subfolders; other files."""

    images: list[Path]
    labels: tuple[int, ...] | None
    classes: tuple[str, ...]
    others: list[Path]


def _files(name: str, knob: str = "folder") -> Found:
    """What there is in a folder. Raises UserError where it is not images alone or classes alone."""
    folder = Path(name).expanduser()
    if not folder.is_dir():
        share = ", or the share of them that is set apart, e.g. 0.1" if knob == "test" else ""
        raise UserError(f"dataset.{knob}: '{folder}' is not a folder; give the path of a folder of images{share}")
    here, others = _images(folder.iterdir())
    named = {path.name: path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")}
    within = [named[name] for name in naturally(named)]
    groups = []
    for path in within:
        images, rest = _images(path.rglob("*"))
        groups.append(images)
        others += rest
    if here and any(groups):
        raise UserError(
            f"dataset.{knob}: '{folder}' has images both beside its subfolders ('{here[0].name}') and in them; subfolders"
            " are classes, so put every image in one, or none"
        )
    if len(here) + sum(map(len, groups)) < 2:
        raise UserError(f"dataset.{knob}: '{folder}' must hold at least 2 images ({', '.join(ENDINGS)})")
    if here:
        return Found(here, None, (), others)
    for path, group in zip(within, groups, strict=True):
        if not group:
            raise UserError(f"dataset.{knob}: '{path}' is a class without an image ({', '.join(ENDINGS)}); remove it")
    labels = tuple(label for label, group in enumerate(groups) for _ in group)
    return Found(list(chain(*groups)), labels, tuple(path.name for path in within), others)


def _images(paths: Iterable[Path]) -> tuple[list[Path], list[Path]]:
    """The images among these, sorted, and the files that are none: of other kinds, or hidden."""
    files = sorted(path for path in paths if path.is_file())
    kinds: tuple[list[Path], list[Path]] = [], []
    for path in files:
        kinds[path.suffix.lower() not in ENDINGS or path.name.startswith(".")].append(path)
    return kinds


def _left_out(others: list[Path]) -> str:
    """3 files were left out, of other kinds (.txt: 2, .gif: 1)."""
    hidden = sum(path.name.startswith(".") for path in others)
    kinds = Counter(path.suffix.lower() or "no ending" for path in others if not path.name.startswith("."))
    said = []
    if kinds:
        each = ", ".join(f"{kind}: {count:,}" for kind, count in kinds.most_common(SHOWN))
        more = ", ..." if len(kinds) > SHOWN else ""
        said.append(f"{_count(kinds.total())} left out, of other kinds ({each}{more})")
    if hidden:
        said.append(f"{_count(hidden)} left out, hidden by a name that begins with a dot")
    return "; ".join(said)


def _count(count: int) -> str:
    return f"{count:,} file{'s were' if count > 1 else ' was'}"


def _split(dataset: ImageFolder, count: int) -> tuple[Any, np.ndarray]:
    return split_rows(dataset.test, count, "images")


@lru_cache(maxsize=2)
def _load(dataset: ImageFolder, *found: Stamped) -> Examples:
    return _in_memory(dataset, _sources(dataset, *found)[0])


@lru_cache(maxsize=2)
def _held_out(dataset: ImageFolder, *found: Stamped) -> Examples:
    return _in_memory(dataset, _sources(dataset, *found)[1])


def _in_memory(dataset: ImageFolder, source: Source) -> Examples:
    return part(source) if dataset.stream else gather(source, np.arange(source.size))


@lru_cache(maxsize=2)
def _sources(dataset: ImageFolder, *found: Stamped) -> tuple[Source, Source]:
    """The images that are trained on and those that are kept from it, none where there is no test split."""
    whole = _seen(dataset, found[0])
    if len(found) == 1:
        kept, apart = _split(dataset, len(whole.files))
        return _source(whole, kept), _source(whole, apart)
    tests = _seen(dataset, found[1], whole)
    there = {each[1:] for each in found[0].stamps}  # also by another name, of a link
    for name, *same in found[1].stamps:
        if tuple(same) in there:
            raise UserError(
                f"dataset.test: '{name}' is an image of '{dataset.folder}' too, that is trained on; take it out"
            )
    if (whole.colour is None) != (tests.colour is None):
        grey, colour = (dataset.folder, tests.colour) if whole.colour is None else (dataset.test, whole.colour)
        raise UserError(
            f"dataset.test: the images of '{grey}' are all grey, and '{colour}' is in colour; save those of both folders"
            " in grey, or those of both in colour"
        )
    return _source(whole), _source(tests)


class Seen(NamedTuple):
    """The images of a folder after a look at their headers: the (width, height) that they are to have, the first that is in
    colour, the class of each, and the knob that names the folder.
    """

    files: list[Path]
    shape: tuple[int, int]
    colour: Path | None
    y: np.ndarray | None
    knob: str


def _seen(dataset: ImageFolder, found: Stamped, like: Seen | None = None) -> Seen:
    """like: the images that are trained on, where these are another folder's, which must be of their size."""
    files, knob = [Path(name) for name, *_ in found.stamps], "folder" if like is None else "test"
    with ThreadPoolExecutor() as pool:
        seen = list(pool.map(partial(look, knob=knob), files))
    shape, first = (seen[0][0], files[0]) if like is None else (like.shape, like.files[0])
    if dataset.size is not None:
        shape = dataset.size, dataset.size
    else:
        for file, (own, _) in zip(files, seen, strict=True):
            if own != shape:
                raise UserError(
                    f"dataset.{knob}: '{file}' is {own[0]} x {own[1]}, but '{first}' is {shape[0]} x {shape[1]}; give"
                    " dataset.size= to make them squares of one size"
                )
    colour = next((file for file, (_, grey) in zip(files, seen, strict=True) if not grey), None)
    return Seen(files, shape, colour, None if found.labels is None else np.asarray(found.labels, np.int32), knob)


def _source(seen: Seen, kept: Any = slice(None)) -> Source:
    """These of the images; the classes are counted over all."""
    mode, places = "L" if seen.colour is None else "RGB", np.arange(len(seen.files))[kept]

    def read(rows: np.ndarray) -> Examples:
        rows = places[rows]
        x = np.stack([decode(seen.files[row], mode, seen.shape, seen.knob) for row in rows])
        return Examples(x, None if seen.y is None else seen.y[rows])

    return Source(len(places), 0 if seen.y is None else int(seen.y.max()) + 1, read)
