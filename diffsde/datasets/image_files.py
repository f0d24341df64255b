"""One image in a file: what its header says, and its pixels."""

from __future__ import annotations

import os
import stat
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from diffsde.errors import Unreadable, UserError, first_line

GREY = ("1", "L", "LA")
FORMATS = ("PNG", "JPEG")
PIXELS = 64 * 10**6  # of an image, decoded
DEEP = ("I", "F")  # the modes of more than 8 bits begin with these
ORIENTATION = 0x0112  # the EXIF tag that says how the camera was held: 1 upright, above 4 on its side


def look(file: Path, knob: str) -> tuple[tuple[int, int], bool]:
    """Width and height when upright, and whether it is grey, from its header."""

    def header(image: Any) -> tuple[tuple[int, int], bool]:
        on_its_side = image.getexif().get(ORIENTATION, 1) > 4
        return image.size[::-1] if on_its_side else image.size, image.mode in GREY

    return _of_user(file, header, knob, decoded=False)


def decode(file: Path, mode: str, shape: tuple[int, int], knob: str) -> np.ndarray:
    """(height, width, 1 or 3) uint8, of this (width, height)."""

    def pixels(image: Any) -> np.ndarray:
        from PIL import Image, ImageOps

        with readable():
            image = ImageOps.exif_transpose(image)
            if image.mode in ("LA", "PA", "RGBA", "La", "RGBa") or "transparency" in image.info:
                image = image.convert("RGBA")
                image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
            image = image.convert(mode)
        if image.size != shape:
            image = ImageOps.fit(image, shape, Image.Resampling.LANCZOS)
        return np.asarray(image).reshape(shape[1], shape[0], len(mode))

    return _of_user(file, pixels, knob)


def _of_user(file: Path, look: Callable[[Any], Any], knob: str, decoded: bool = True) -> Any:
    """What `look` makes of the image. Raises UserError for what is no image of 8 bits."""

    def looked(image: Any) -> Any:
        if image.mode.startswith(DEEP):
            raise UserError(
                f"dataset.{knob}: '{file}' has more than 8 bits a pixel (mode {image.mode}); save it with 8"
            )
        return look(image)

    try:
        return opened(file, looked, decoded=decoded)
    except Unreadable as error:
        raise UserError(f"dataset.{knob}: '{file}' cannot be read: {error}; mend or remove the file") from None


def opened(file: Path, look: Callable[[Any], Any], mode: str | None = None, decoded: bool = True) -> Any:
    """What `look` makes of the image in a file: of FORMATS, whose decoders start no other program, and no more than PIXELS large,
    by its header. Raises Unreadable, and what `look` raises.

    mode: converted to it. decoded: whether the pixels are read; else the header alone.
    """
    from PIL import Image

    with warnings.catch_warnings(), ExitStack() as held:
        warnings.simplefilter("ignore")  # Pillow's, of odd metadata and of sizes, which are bounded here
        with readable():
            if not stat.S_ISREG(os.stat(file).st_mode):
                raise Unreadable("it is no regular file")
            image: Any = held.enter_context(Image.open(file, formats=FORMATS))
            width, height = image.size
            if width * height > PIXELS:
                raise Unreadable(f"it is {width} x {height} pixels large; at most {PIXELS // 10**6} million are read")
            image.getexif()
            if decoded:
                image.load()
            if mode is not None:
                image = image.convert(mode)
        return look(image)


@contextmanager
def readable() -> Iterator[None]:
    """A context of calls of Pillow alone, whose decoders raise many kinds of error for a damaged file; here it is Unreadable."""
    try:
        yield
    except Unreadable:
        raise
    except Exception as error:
        raise Unreadable(first_line(error)[:200]) from None
