"""A figure as text: value, error and reference, with as many digits as are significant."""

from __future__ import annotations

import math

from diffsde.metrics.figures import KINDS, Figure

DIGITS = 7  # most significant digits of a number
SMALL = 0.01  # below it a loss has digits of its own: four decimals would show two of them at most
PLACES = 6  # most decimals of a number without an exponent


def shown_figure(figure: Figure, unit: str = "") -> str:
    """Value, error and reference of a figure as text, all with the same decimals.

    The decimals show two digits of the error; without an error, four decimals, or four digits of a value below 0.1.
    """
    value, error, reference, points = figure
    size = abs(value) / 100 if abs(value) < 0.1 else 1e-3
    places = decimals(error if error and math.isfinite(error) else size)
    if 0.1 <= abs(value) < math.inf:  # float32 has no more digits
        places = min(places, max(0, DIGITS - 1 - math.floor(math.log10(abs(value)))))
    text = with_places(value, places)
    if error is not None:
        seen = not 0 < error < 0.5 * 10.0**-places
        text += f" +- {(with_places(error, places) if seen else f'{error:.1e}') if error else 0}"
    text += f" {unit}" if unit else ""
    if reference is None:
        return text
    what = f"{points} true points" if reference.kind == "floor" and points is not None else KINDS[reference.kind]
    own = reference.error or 0.0
    shown = f" +- {with_places(own, places)}" if own >= 0.5 * 10.0**-places else ""
    return f"{text}  ({what}: {with_places(reference.value, places)}{shown})"


def shown_loss(loss: float) -> str:
    """A loss of a line of the log: four decimals, or three digits of a small one."""
    return f"{loss:.4f}" if not 0 < abs(loss) < SMALL else f"{loss:.3g}"


def decimals(error: float) -> int:
    """The number of decimals that show two significant digits of a positive number; 4 for 0."""
    if not error:
        return 4
    return max(0, 1 - math.floor(math.log10(float(f"{error:.1e}"))))


def with_places(number: float, places: int) -> str:
    """A number with `places` decimals; with an exponent if that is more than PLACES and the number is small."""
    if places <= PLACES or abs(number) >= 0.1 or not math.isfinite(number):
        return f"{number:.{places}f}"
    rounded = round(number, places)
    if rounded == 0:
        return "0"
    return f"{rounded:.{max(0, places + math.floor(math.log10(abs(rounded))))}e}"
