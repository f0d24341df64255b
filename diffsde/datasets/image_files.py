"""One image in a file: what its header says, and its pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from diffsde.errors import UserError, first_line

GREY = ("1", "L", "LA")
DEEP = ("I", "F")  # the modes of more than 8 bits begin with these
ORIENTATION = 0x0112  # the EXIF tag that says how the camera was held: 1 upright, above 4 on its side


def look(file: Path, knob: str) -> tuple[tuple[int, int], bool]:
    """Width and height when upright, and whether it is grey, from its header."""

    def header(image: Any) -> tuple[tuple[int, int], bool]:
        on_its_side = image.getexif().get(ORIENTATION, 1) > 4
        return image.size[::-1] if on_its_side else image.size, image.mode in GREY

    return _open(file, header, knob)


def decode(file: Path, mode: str, shape: tuple[int, int], knob: str) -> np.ndarray:
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

    return _open(file, pixels, knob)


def _open(file: Path, look: Any, knob: str) -> Any:
    """What `look` makes of the image. Raises UserError for what is no image."""
    from PIL import Image

    try:
        with Image.open(file) as image:
            if image.mode.startswith(DEEP):
                raise UserError(
                    f"dataset.{knob}: '{file}' has more than 8 bits a pixel (mode {image.mode}); save it with 8"
                )
            return look(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = first_line(error)
        raise UserError(f"dataset.{knob}: '{file}' cannot be read: {reason}; mend or remove the file") from None
