"""A folder of images of your own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from diffsde.datasets.dataset import Examples, FiniteDataset, Source, stamp
from diffsde.datasets.natural_order import naturally
from diffsde.datasets.streaming import gather, part
from diffsde.errors import UserError
from diffsde.types import choice

ENDINGS = (".png", ".jpg", ".jpeg")
GREY = ("1", "L", "LA")
SHOWN = 5  # kinds of files that are left out
DEEP = ("I", "F")  # the modes of more than 8 bits begin with these
ORIENTATION = 0x0112  # the EXIF tag that says how the camera was held: 1 upright, above 4 on its side


@choice
class ImageFolder(FiniteDataset):
    """image_folder: the .png, .jpg and .jpeg files of a folder; where it has subfolders, each is a class, in
    natural order (1, 2, 10).

    size: cut to the square in the middle and scaled to size x size; None: as they are, all equal. Grey where every file is
    saved as grey, else colour. What is transparent is laid over white, and cameras' notes of what is up are heeded.
    stream: only the files' headers are read at first, and each image when training comes to it.
    """

    FILES: ClassVar[tuple[str, ...]] = ("folder",)

    folder: str = ""
    size: int | None = None
    flip: bool = False
    dequantise: bool = False
    conditional: bool = False
    stream: bool = False

    def check(self) -> None:
        if not self.folder:
            raise ValueError("folder is not given; say dataset.folder=my_images")
        if self.size is not None and self.size < 1:
            raise ValueError(f"size is {self.size}; it must be 1 or more")

    def load(self) -> Examples:
        return _load(self, *self._found())

    def source(self) -> Source:
        return _source(self, *self._found())

    def class_names(self) -> tuple[str, ...]:
        return _files(Path(self.folder).expanduser()).classes

    def notes(self) -> tuple[str, ...]:
        found = _files(Path(self.folder).expanduser())
        alone = f"there is one class alone, {found.classes[0]}" if len(found.classes) == 1 else ""
        return tuple(note for note in (_left_out(found.others), alone) if note)

    def about(self, arrays: Examples) -> dict[str, Any]:
        return super().about(arrays) | {"from": self.folder}

    def _found(self) -> tuple[tuple[Any, ...], tuple[int, ...] | None]:
        found = _files(Path(self.folder).expanduser())
        return stamp(found.images), found.labels


class Found(NamedTuple):
    """The images of a folder, sorted; the class of each and the classes' names where there are subfolders; other files."""

    images: list[Path]
    labels: tuple[int, ...] | None
    classes: tuple[str, ...]
    others: list[Path]


def _files(folder: Path) -> Found:
    """What there is in a folder. Raises UserError where it is not images alone or classes alone."""
    if not folder.is_dir():
        raise UserError(f"dataset.folder: '{folder}' is not a folder; give the path of a folder of images")
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
            f"dataset.folder: '{folder}' has images both beside its subfolders ('{here[0].name}') and in them; subfolders"
            " are classes, so put every image in one, or none"
        )
    if len(here) + sum(map(len, groups)) < 2:
        raise UserError(f"dataset.folder: '{folder}' must hold at least 2 images ({', '.join(ENDINGS)})")
    if here:
        return Found(here, None, (), others)
    for path, group in zip(within, groups, strict=True):
        if not group:
            raise UserError(f"dataset.folder: '{path}' is a class without an image ({', '.join(ENDINGS)}); remove it")
    labels = tuple(label for label, group in enumerate(groups) for _ in group)
    return Found(list(chain(*groups)), labels, tuple(path.name for path in within), others)


def _images(paths: Iterable[Path]) -> tuple[list[Path], list[Path]]:
    """The images among these, sorted, and the files that are none: of other kinds, or hidden."""
    files = sorted(path for path in paths if path.is_file())
    images = [path for path in files if path.suffix.lower() in ENDINGS and not path.name.startswith(".")]
    return images, [path for path in files if path not in set(images)]


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


@lru_cache(maxsize=2)
def _load(dataset: ImageFolder, stamps: tuple[tuple[Any, ...], ...], labels: tuple[int, ...] | None) -> Examples:
    source = _source(dataset, stamps, labels)
    return part(source) if dataset.stream else gather(source, np.arange(source.size))


@lru_cache(maxsize=2)
def _source(dataset: ImageFolder, stamps: tuple[tuple[Any, ...], ...], labels: tuple[int, ...] | None) -> Source:
    files = [Path(name) for name, *_ in stamps]
    with ThreadPoolExecutor() as pool:
        seen = list(pool.map(_look, files))
    if dataset.size is None:
        for file, (shape, _) in zip(files, seen, strict=True):
            if shape != seen[0][0]:
                raise UserError(
                    f"dataset.folder: '{file}' is {shape[0]} x {shape[1]}, but '{files[0]}' is {seen[0][0][0]} x"
                    f" {seen[0][0][1]}; give dataset.size= to make them squares of one size"
                )
    mode = "L" if all(grey for _, grey in seen) else "RGB"
    shape = seen[0][0] if dataset.size is None else (dataset.size, dataset.size)
    y = None if labels is None else np.asarray(labels, np.int32)

    def read(rows: np.ndarray) -> Examples:
        x = np.stack([_decode(files[row], mode, shape) for row in rows])
        return Examples(x, None if y is None else y[rows])

    return Source(len(files), 0 if y is None else int(y.max()) + 1, read)


def _look(file: Path) -> tuple[tuple[int, int], bool]:
    """Width and height when upright, and whether it is grey, from its header."""

    def header(image: Any) -> tuple[tuple[int, int], bool]:
        on_its_side = image.getexif().get(ORIENTATION, 1) > 4
        return image.size[::-1] if on_its_side else image.size, image.mode in GREY

    return _open(file, header)


def _decode(file: Path, mode: str, shape: tuple[int, int]) -> np.ndarray:
    """(height, width, 1 or 3) uint8, of this (width, height)."""

    def pixels(image: Any) -> np.ndarray:
        from PIL import Image, ImageOps

        image = ImageOps.exif_transpose(image)
        if image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        image = image.convert(mode)
        if image.size != shape:
            image = ImageOps.fit(image, shape, Image.Resampling.LANCZOS)
        return np.asarray(image).reshape(shape[1], shape[0], len(mode))

    return _open(file, pixels)


def _open(file: Path, look: Any) -> Any:
    """What `look` makes of the image. Raises UserError for what is no image."""
    from PIL import Image

    try:
        with Image.open(file) as image:
            if image.mode.startswith(DEEP):
                raise UserError(
                    f"dataset.folder: '{file}' has more than 8 bits a pixel (mode {image.mode}); save it with 8"
                )
            return look(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"dataset.folder: '{file}' cannot be read: {reason}; mend or remove the file") from None
