"""Pictures of images (H, W, C), values [-1, 1], in exact pixels: C is grey, grey and alpha, RGB, or RGB and alpha."""

from __future__ import annotations

import math
import textwrap
from typing import NamedTuple

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.textpath import TextPath

from diffsde.plots.film import Film, pixels, strips, with_palette
from diffsde.plots.style import GREY, INK, blank_figure, escape_formulas

DPI = 120
TILE = 64  # pixels of the screen, at most, that a side of a smaller image is drawn with
GAP = 2  # ... between images,
SPACE = 12  # ... between what belongs together less, and at the edge
LINE = 19  # ... and for a line of text
WIDTH = 1300  # ... of a picture
LEAST = 400  # ... of the lines over it
SMALL = 7.0  # points of the letters of what stands over a picture, and of a film's time


class Tiles(NamedTuple):
    """Pixels (h, w, 3) uint8 and where their upper left corner lies, in pixels, y downwards."""

    left: int
    top: int
    pixels: np.ndarray


class Words(NamedTuple):
    """A line of text: `x` is its left end, its centre or its right end, as `align` says; `y` its middle, downwards."""

    x: float
    y: float
    text: str
    align: str = "center"
    colour: str = INK
    size: float = 8.0

    def span(self) -> tuple[float, float]:
        """Where it begins and ends."""
        width = width_of(self.text, self.size)
        begin = self.x - width * {"left": 0.0, "center": 0.5, "right": 1.0}[self.align]
        return begin, begin + width


def rgb(images: np.ndarray) -> np.ndarray:
    """Images (..., H, W, C) as bytes (..., H, W, 3): 255 (x + 1)/2, clipped; what has an alpha lies over white."""
    shade = np.clip((np.asarray(images, np.float32) + 1) / 2, 0, 1)
    if shade.shape[-1] in (2, 4):
        alpha = shade[..., -1:]
        shade = shade[..., :-1] * alpha + (1 - alpha)
    return np.rint(255 * np.broadcast_to(shade, (*shade.shape[:-1], 3))).astype(np.uint8)


def scale_of(shape: tuple[int, ...]) -> int:
    """Pixels of the screen that a side of an image's pixel takes: a whole number, so that all are alike."""
    return max(1, TILE // max(shape[:2]))


def fitting_columns(shape: tuple[int, ...], most: int, panels: int = 1) -> int:
    """Columns of images of this shape, at most so many, that fit the width of a picture with so many panels."""
    return max(1, min(most, WIDTH // panels // (shape[1] * scale_of(shape) + GAP)))


def mosaic(images: np.ndarray, columns: int) -> np.ndarray:
    """Images (n, H, W, C), image i at row i // columns and column i % columns, as pixels (h, w, 3) of the screen."""
    return arranged(rgb(images), columns, 255)


def arranged(tiles: np.ndarray, columns: int, blank: int) -> np.ndarray:
    """Tiles (n, H, W, ...), bytes, enlarged and set in rows of so many columns, `blank` between them: (h, w, ...)."""
    scale = scale_of(tiles.shape[1:])
    tiles = tiles.repeat(scale, axis=1).repeat(scale, axis=2)
    n, height, width = tiles.shape[:3]
    rows = math.ceil(n / columns)
    shape = rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, *tiles.shape[3:]
    pixels = np.full(shape, blank, np.uint8)
    for i, tile in enumerate(tiles):
        top, left = i // columns * (height + GAP), i % columns * (width + GAP)
        pixels[top : top + height, left : left + width] = tile
    return pixels


def width_of(text: str, size: float) -> float:
    """Pixels that a line of text takes."""
    return TextPath((0, 0), text, size=size).get_extents().width * DPI / 72 if text else 0.0


def sheet(tiles: list[Tiles], words: list[Words], about: str = "") -> Figure:
    """Tiles and words on a figure that is as large as they are: no pixel is resampled, no word cut off. about: what all of
    it is of, over it.
    """
    if about:
        words = [*words, *over(tiles, words, about)]
    spans = [each.span() for each in words]
    left = min([each.left for each in tiles] + [begin for begin, _ in spans])
    right = max([each.left + each.pixels.shape[1] for each in tiles] + [end for _, end in spans])
    top = min([each.top for each in tiles] + [each.y - LINE / 2 for each in words])
    bottom = max([each.top + each.pixels.shape[0] for each in tiles] + [each.y + LINE / 2 for each in words])
    left, top = math.floor(left) - SPACE, math.floor(top) - SPACE
    width, height = math.ceil(right) - left + SPACE, math.ceil(bottom) - top + SPACE
    figure = blank_figure(width, height, DPI)
    for each in tiles:
        low = height - (each.top - top) - each.pixels.shape[0]
        figure.figimage(each.pixels, each.left - left, low, origin="upper")
    for word in words:
        x, y = (word.x - left) / width, 1 - (word.y - top) / height
        figure.text(x, y, word.text, ha=word.align, va="center_baseline", color=word.colour, fontsize=word.size)
    return figure


def over(tiles: list[Tiles], words: list[Words], about: str) -> list[Words]:
    """`about` in lines no wider than the tiles, over all that there is."""
    top = min([each.top for each in tiles] + [each.y - LINE / 2 for each in words])
    width = max(LEAST, max(each.left + each.pixels.shape[1] for each in tiles))
    letters = int(0.96 * len(about) * width / width_of(escape_formulas(about), SMALL))
    lines = textwrap.wrap(about, max(1, letters - 1))
    return [
        Words(0, top - (len(lines) - i - 0.5) * LINE, escape_formulas(line), "left", GREY, SMALL)
        for i, line in enumerate(lines)
    ]


def grids(panels: dict[str, np.ndarray], columns: int, about: str = "") -> Figure:
    """A grid of images (n, H, W, C) for each title, side by side."""
    return sheet(*_panels(panels, columns), about)


def _panels(panels: dict[str, np.ndarray], columns: int) -> tuple[list[Tiles], list[Words]]:
    tiles: list[Tiles] = []
    words: list[Words] = []
    left = 0
    for title, images in panels.items():
        pixels = mosaic(images, columns)
        width = max(pixels.shape[1], math.ceil(width_of(title, 10)))
        tiles.append(Tiles(left + (width - pixels.shape[1]) // 2, 0, pixels))
        if title:
            words.append(Words(left + width / 2, -LINE / 2 - 3, title, size=10))
        left += width + 2 * SPACE
    return tiles, words


def lines(
    rows: list[np.ndarray], labels: list[str], headings: list[str], gaps: list[int] | None = None, about: str = ""
) -> Figure:
    """A row of images (m, H, W, C) for each label, which stands at its left; a heading over each column.

    gaps: the space under each row; none between the rows of one grid.
    """
    tiles: list[Tiles] = []
    words: list[Words] = []
    top = 0
    for i, (row, label) in enumerate(zip(rows, labels, strict=True)):
        pixels = mosaic(row, len(row))
        tiles.append(Tiles(0, top, pixels))
        words.append(Words(-SPACE * 0.8, top + pixels.shape[0] / 2, label, "right"))
        top += pixels.shape[0] + (gaps[i] if gaps else GAP)
    across = _across(rows[0])
    words += [Words((j + 0.5) * across, -LINE / 2, text, colour=GREY) for j, text in enumerate(headings)]
    return sheet(tiles, [word for word in words if word.text], about)


def _across(images: np.ndarray) -> int:
    """From the left edge of one image to that of the next."""
    return images.shape[2] * scale_of(images.shape[1:]) + GAP


def by_class(panels: dict[str, dict[str, np.ndarray]], about: str = "") -> Figure:
    """For each title a row of images (m, H, W, C) for each class, side by side, the classes' names at the left."""
    tiles: list[Tiles] = []
    words: list[Words] = []
    left = 0
    for title, groups in panels.items():
        for i, (name, images) in enumerate(groups.items()):
            row = mosaic(images, len(images))
            top = i * (row.shape[0] + GAP)
            tiles.append(Tiles(left, top, row))
            if not left:
                words.append(Words(-SPACE * 0.8, top + row.shape[0] / 2, escape_formulas(name), "right"))
        width = max(len(images) for images in groups.values()) * _across(next(iter(groups.values()))) - GAP
        if title:
            words.append(Words(left + width / 2, -LINE / 2 - 3, title, size=10))
        left += width + 2 * SPACE
    return sheet(tiles, words, about)


def denoising(times: np.ndarray, states: np.ndarray, data: np.ndarray, name: str, about: str = "") -> Figure:
    """x_t over the prediction of the data, its name beside it, both (m, k, H, W, C), along the times (m,): two lines for
    each of k samples.
    """
    rows = [each[:, i] for i in range(states.shape[1]) for each in (states, data)]
    labels = ["$x_t$", name] * states.shape[1]
    return lines(rows, labels, stamps(times), [GAP, SPACE] * states.shape[1], about)


def stamps(times: np.ndarray) -> list[str]:
    """t = 0, 0.125, ..."""
    return [f"t = {t:.3g}" if j == 0 else f"{t:.3g}" for j, t in enumerate(times)]


def interpolations(images: np.ndarray, degrees: np.ndarray, labels: list[str], about: str = "") -> Figure:
    """Images (k, m, H, W, C), a line for each of k interpolations, at m angles in degrees."""
    return lines(list(images), labels, [f"{angle:g}°" for angle in degrees], about=about)


def neighbours(samples: np.ndarray, nearest: np.ndarray, distances: np.ndarray, about: str = "") -> Figure:
    """Each sample (n, H, W, C), and at its right the images nearest to it (n, k, H, W, C) over their distances (n, k)."""
    tiles: list[Tiles] = []
    words: list[Words] = []
    across = _across(samples)
    begin = across + 2 * SPACE
    words.append(Words(across / 2, -LINE / 2 - 3, "sample", size=10))
    title = "nearest training images, $|x - z|$"
    words.append(Words(begin, -LINE / 2 - 3, title, "left", size=10))
    down = samples.shape[1] * scale_of(samples.shape[1:]) + LINE + GAP
    for i, (image, near, far) in enumerate(zip(samples, nearest, distances, strict=True)):
        tiles += [Tiles(0, i * down, mosaic(image[None], 1)), Tiles(begin, i * down, mosaic(near, len(near)))]
        for j, distance in enumerate(far):
            at = begin + (j + 0.5) * across
            words.append(Words(at, (i + 1) * down - GAP - LINE / 2, f"{distance:.2f}", colour=GREY, size=7))
    return sheet(tiles, words, about)


def film_of_images(panels: dict[str, np.ndarray], times: np.ndarray, columns: int, about: str = "") -> Film:
    """Grids of images (m, n, H, W, C), one for each title, along the times (m,)."""
    tiles, words = _panels({title: images[-1] for title, images in panels.items()}, columns)
    stamps = strips([f"t = {t:.2f}" for t in times], SMALL, DPI)
    shades = np.rint(255 - stamps[..., None] * (255 - 255 * np.array(to_rgb(GREY)))).astype(np.uint8)
    bottom = max(each.top + each.pixels.shape[0] for each in tiles)
    blank = Tiles(0, bottom + GAP, np.full_like(shades[0], 255))  # where the time stands
    figure = sheet([*tiles, blank], words, about)
    background = pixels(figure)
    parts = [background, shades, *map(rgb, panels.values())]
    index, palette = with_palette(np.concatenate([part.reshape(-1, 1, 3) for part in parts]), background[0, 0])
    cuts = np.cumsum([part.size // 3 for part in parts])[:-1]
    drawn, stamped, *moving = (
        each.reshape(part.shape[:-1]) for each, part in zip(np.split(index, cuts), parts, strict=True)
    )
    frames = np.repeat(drawn[None], len(times), axis=0)
    for i, frame in enumerate(frames):
        grids = [arranged(images[i], columns, drawn[0, 0]) for images in moving]
        for place, grid in zip(figure.images, [*grids, stamped[i]], strict=True):
            top, left = len(frame) - int(place.oy) - len(grid), int(place.ox)  # type: ignore[attr-defined]
            frame[top : top + grid.shape[0], left : left + grid.shape[1]] = grid
    return Film(frames, palette)
