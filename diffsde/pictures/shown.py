"""The table of `diffsde show`: each word of what=, and the function from choices to the picture."""

from __future__ import annotations

from collections.abc import Callable

from diffsde.pictures.shown_conditional import conditional
from diffsde.pictures.shown_data import data, noising
from diffsde.pictures.shown_density import density
from diffsde.pictures.shown_field import field
from diffsde.pictures.shown_path import path
from diffsde.pictures.subjects import Shown
from diffsde.runs.show_config import ShowConfig

# what=marginals draws samples too, which the verb does: verbs/show.py.
SHOWN: dict[str, Callable[[ShowConfig], Shown]] = {
    "density": density,
    "field": field,
    "conditional": conditional,
    "path": path,
    "data": data,
    "noising": noising,
}
