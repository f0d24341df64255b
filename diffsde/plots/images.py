"""Pictures of images (H, W, C), values [-1, 1], in exact pixels: C is grey, grey and alpha, RGB, or RGB and alpha."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from matplotlib.animation import FuncAnimation
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.textpath import TextPath

from diffsde.plots.style import GREY, INK

DPI = 120
TILE = 64  # pixels of the screen, at most, that a side of a smaller image is drawn with
GAP = 2  # ... between images,
SPACE = 12  # ... between what belongs together less, and at the edge
LINE = 19  # ... and for a line of text
WIDTH = 1300  # ... of a picture
HOLD = 12  # frames for which a film holds still at its end


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


def fitting(shape: tuple[int, ...], most: int, panels: int = 1) -> int:
    """Columns of images of this shape, at most so many, that fit the width of a picture with so many panels."""
    return max(1, min(most, WIDTH // panels // (shape[1] * scale_of(shape) + GAP)))


def mosaic(images: np.ndarray, columns: int) -> np.ndarray:
    """Images (n, H, W, C), image i at row i // columns and column i % columns, as pixels (h, w, 3) of the screen."""
    scale = scale_of(images.shape[1:])
    tiles = rgb(images).repeat(scale, axis=1).repeat(scale, axis=2)
    n, height, width, _ = tiles.shape
    rows = math.ceil(n / columns)
    pixels = np.full((rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3), 255, np.uint8)
    for i, tile in enumerate(tiles):
        top, left = i // columns * (height + GAP), i % columns * (width + GAP)
        pixels[top : top + height, left : left + width] = tile
    return pixels


def width_of(text: str, size: float) -> float:
    """Pixels that a line of text takes."""
    return TextPath((0, 0), text, size=size).get_extents().width * DPI / 72 if text else 0.0


def sheet(tiles: list[Tiles], words: list[Words]) -> Figure:
    """Tiles and words on a figure that is as large as they are: no pixel is resampled, no word cut off."""
    spans = [each.span() for each in words]
    left = min([each.left for each in tiles] + [begin for begin, _ in spans])
    right = max([each.left + each.pixels.shape[1] for each in tiles] + [end for _, end in spans])
    top = min([each.top for each in tiles] + [each.y - LINE / 2 for each in words])
    bottom = max([each.top + each.pixels.shape[0] for each in tiles] + [each.y + LINE / 2 for each in words])
    left, top = math.floor(left) - SPACE, math.floor(top) - SPACE
    width, height = math.ceil(right) - left + SPACE, math.ceil(bottom) - top + SPACE
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
    FigureCanvasAgg(figure)
    for each in tiles:
        low = height - (each.top - top) - each.pixels.shape[0]
        figure.figimage(each.pixels, each.left - left, low, origin="upper")
    for word in words:
        x, y = (word.x - left) / width, 1 - (word.y - top) / height
        figure.text(x, y, word.text, ha=word.align, va="center_baseline", color=word.colour, fontsize=word.size)
    return figure


def grids(panels: dict[str, np.ndarray], columns: int) -> Figure:
    """A grid of images (n, H, W, C) for each title, side by side."""
    tiles, words = _panels(panels, columns)
    return sheet(tiles, words)


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


def lines(rows: list[np.ndarray], labels: list[str], headings: list[str], gaps: list[int] | None = None) -> Figure:
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
    return sheet(tiles, [word for word in words if word.text])


def _across(images: np.ndarray) -> int:
    """From the left edge of one image to that of the next."""
    return images.shape[2] * scale_of(images.shape[1:]) + GAP


def by_class(groups: dict[str, np.ndarray]) -> Figure:
    """A row of images (m, H, W, C) for each class, its name at the left."""
    return lines(list(groups.values()), list(groups), [])


def denoising(times: np.ndarray, states: np.ndarray, data: np.ndarray, name: str) -> Figure:
    """x_t over the prediction of the data, its name beside it, both (m, k, H, W, C), along the times (m,): two lines for
    each of k samples.
    """
    rows = [each[:, i] for i in range(states.shape[1]) for each in (states, data)]
    labels = ["$x_t$", name] * states.shape[1]
    return lines(rows, labels, stamps(times), [GAP, SPACE] * states.shape[1])


def stamps(times: np.ndarray) -> list[str]:
    """t = 0, 0.125, ..."""
    return [f"t = {t:.3g}" if j == 0 else f"{t:.3g}" for j, t in enumerate(times)]


def interpolations(images: np.ndarray, degrees: np.ndarray, labels: list[str]) -> Figure:
    """Images (k, m, H, W, C), a line for each of k interpolations, at m angles in degrees."""
    return lines(list(images), labels, [f"{angle:g}°" for angle in degrees])


def neighbours(samples: np.ndarray, nearest: np.ndarray, distances: np.ndarray) -> Figure:
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
    return sheet(tiles, words)


def film(panels: dict[str, np.ndarray], times: np.ndarray, columns: int) -> FuncAnimation:
    """Grids of images (m, n, H, W, C), one for each title, along the times (m,); holds still at the end."""
    tiles, words = _panels({title: images[-1] for title, images in panels.items()}, columns)
    bottom = max(each.top + each.pixels.shape[0] for each in tiles)
    figure = sheet(tiles, [*words, Words(0, bottom + LINE / 2 + 3, "t = 0.999", "left", colour=GREY)])
    label = figure.texts[-1]

    def show(i: int) -> list:
        i = min(i, len(times) - 1)
        for grid, images in zip(figure.images, panels.values(), strict=True):
            grid.set_data(mosaic(images[i], columns))
        label.set_text(f"t = {times[i]:.2f}")
        return [*figure.images, label]

    return FuncAnimation(figure, show, frames=len(times) + HOLD, interval=60)
