"""Films: a background that is drawn once, and frames that are composed on it with numpy and share one palette."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from diffsde.plots.style import INK, blank_figure

PAUSE = 62  # milliseconds a frame
HOLD = 12  # frames for which a film holds still at its end
COLOURS = 255  # of a palette: a GIF has 256, of which the last, CLEAR, leaves a pixel as it was
CLEAR = COLOURS
GREYS = 16  # of them, those of the words beside what is shaded,
SHADES = 160  # ... of the shades on which ink lies; what are left are shades under ink
LEVELS = 16  # of ink over one of them, none included
DISC = 1.0  # pixels: the radius of a point
COVER = 0.55  # of what is under a point that it hides


class Film(NamedTuple):
    """Frames (m, height, width) uint8 of indices into a palette (COLOURS, 3) uint8; the last stays for HOLD frames more."""

    frames: np.ndarray
    palette: np.ndarray

    def image(self, i: int) -> Image.Image:
        """Frame i as a palette image."""
        image = Image.fromarray(self.frames[i])
        image.putpalette(self.palette.tobytes())
        return image

    def save(self, file: Any) -> None:
        """Write it as a GIF that begins again for ever; of each frame the pixels that are another's than in the one before."""
        same = self.frames[1:] == self.frames[:-1]
        changes = np.concatenate([self.frames[:1], np.where(same, np.uint8(CLEAR), self.frames[1:])])
        first, *rest = [self._replace(frames=changes).image(i) for i in range(len(changes))]
        pauses = [PAUSE] * len(rest) + [PAUSE * (1 + HOLD)]
        how = {"duration": pauses, "loop": 0, "disposal": 1, "transparency": CLEAR, "optimize": False}
        first.save(file, "GIF", save_all=True, append_images=rest, **how)


def pixels(figure: Figure) -> np.ndarray:
    """What is drawn on a figure (height, width, 3) uint8."""
    figure.canvas.draw()
    return np.array(figure.canvas.buffer_rgba())[..., :3]  # type: ignore[attr-defined]


def strips(texts: Iterable[str], size: float, dpi: float) -> np.ndarray:
    """How much of each pixel the letters of each line of text cover, (m, height, width) in [0, 1]: drawn all at once."""
    texts = list(texts)
    height, width = (int(np.ceil(size * dpi / 72 * k)) for k in (1.6, 0.75 * max(map(len, texts))))
    figure = blank_figure(width, height * len(texts), dpi)
    for i, text in enumerate(texts):
        figure.text(0, 1 - (i + 0.5) / len(texts), text, va="center_baseline", fontsize=size, color="black")
    return 1 - pixels(figure)[..., 0].reshape(len(texts), height, width) / 255


def discs(points: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Points (n, 2) as ink on a picture of this shape (height, width): a pixel lets exp(-ink) of what is under it through.

    points: (x, y) in pixels from the upper left corner, where pixel (i, j) covers [j, j + 1] x [i, i + 1]. Each is a disc
    whose edge is a pixel wide; where discs overlap, each hides its share of what the others let through, so that ink adds up.
    """
    reach = np.arange(-np.ceil(DISC), np.ceil(DISC) + 1, dtype=np.int64)
    near = np.floor(points).astype(np.int64)
    columns, rows = near[:, :1] + reach, near[:, 1:] + reach
    across, down = columns + 0.5 - points[:, :1], rows + 0.5 - points[:, 1:]
    distance = np.sqrt(across[:, None, :] ** 2 + down[:, :, None] ** 2)
    hidden = COVER * np.clip(DISC + 0.5 - distance, 0, 1)
    inside = ((columns >= 0) & (columns < shape[1]))[:, None, :] & ((rows >= 0) & (rows < shape[0]))[:, :, None]
    used = inside & (hidden > 0)
    where = (rows[:, :, None] * shape[1] + columns[:, None, :])[used]
    ink = np.bincount(where, -np.log1p(-hidden[used]), shape[0] * shape[1])
    return ink.astype(float).reshape(shape)  # of no points at all numpy makes whole numbers


class Inked(NamedTuple):
    """A background whose pixels' colours are `palette[lookup[0, ground]]`, ground (height, width); under ink of a level from
    0, none, to LEVELS - 1, which hides it, they are `palette[lookup[level, ground]]`.
    """

    ground: np.ndarray
    lookup: np.ndarray
    palette: np.ndarray

    def frame(self, ink: np.ndarray) -> np.ndarray:
        """The indices (height, width) of the background under ink (height, width), as `discs` gives it."""
        found = self.lookup[0][self.ground]
        under = np.nonzero(ink)
        level = np.rint((LEVELS - 1) * -np.expm1(-ink[under])).astype(np.intp)
        found[under] = self.lookup[level, self.ground[under]]
        return found


def inked(background: np.ndarray, inside: np.ndarray) -> Inked:
    """A background (height, width, 3) uint8 for frames that are drawn on it in ink; inside: (height, width) where it is shaded,
    what lies outside being words, whose few greys the many colours of the shades would displace.
    """
    white = background[0, 0]
    ground = np.empty(inside.shape, np.uint8)
    words, greys = with_palette(background[~inside][:, None], white, GREYS)
    shaded, shades = with_palette(background[inside][:, None], white, SHADES)
    ground[~inside], ground[inside] = words[:, 0], GREYS + shaded[:, 0]
    colours = np.concatenate([greys, shades])
    share = np.linspace(0, 1, LEVELS)[1:, None, None]
    mixed = np.rint((1 - share) * colours.astype(float) + share * 255 * np.array(to_rgb(INK))).astype(np.uint8)
    under, dark = with_palette(mixed, white, COLOURS - len(colours))
    bare = np.arange(len(colours), dtype=np.uint8)[None]
    return Inked(ground, np.concatenate([bare, len(colours) + under]), np.concatenate([colours, dark]))


def with_palette(pixels: np.ndarray, ground: np.ndarray, colours: int = COLOURS) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (rows, columns, 3) uint8 as indices (rows, columns) into a palette (colours, 3) that suits them; the colour
    `ground` (3,), of what lies behind all else, stays as it is.
    """
    image = Image.fromarray(pixels).quantize(colours, dither=Image.Dither.NONE)
    palette = np.zeros((colours, 3), np.uint8)
    found = np.array(image.getpalette(), np.uint8).reshape(-1, 3)[:colours]
    palette[: len(found)] = found
    index = np.asarray(image)
    same = (pixels == ground).all(axis=-1)
    if same.any():
        palette[index[same][0]] = ground
    return index, palette
