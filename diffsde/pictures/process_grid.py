"""The picture of a sweep of processes: the paths of every job, a panel each, with the same axes."""

from __future__ import annotations

from matplotlib.figure import Figure

from diffsde.pictures.processes import PathScene
from diffsde.plots.processes import Panel, small_multiples

MOST = 64  # panels in one picture
ACROSS = 4  # columns where one key is swept


def process_grid(overrides: list[dict[str, str]], scenes: list[PathScene]) -> Figure | None:
    """Rows by the first key that varies, columns by the second, the panels of one row where only one does; None for one job."""
    keys = [key for key in dict.fromkeys(key for each in overrides for key in each) if varies(key, overrides)]
    if not keys or len(scenes) > MOST:
        return None
    panels: list[Panel | None] = [
        scene.panel(title=" ".join(f"{key}={each.get(key, '')}" for key in keys))
        for each, scene in zip(overrides, scenes, strict=True)
    ]
    fixed = " ".join(f"{key}={value}" for key, value in overrides[0].items() if key not in keys)
    how = scenes[0].about if len({scene.about for scene in scenes}) == 1 else scenes[0].about.split(",")[0]
    about = (
        f"{fixed or scenes[0].title}; {how}; the first {scenes[0].flat.shape[1]} paths of each of {len(scenes)} jobs"
    )
    name = scenes[0].name if len({scene.name for scene in scenes}) == 1 else "$x_1$"
    places = [tuple(each.get(key, "") for key in keys) for each in overrides]
    return small_multiples(in_rows(panels, places), name, about)


def varies(key: str, overrides: list[dict[str, str]]) -> bool:
    """Whether a key's words differ between the jobs."""
    return len({each.get(key) for each in overrides}) > 1


def in_rows(panels: list[Panel | None], places: list[tuple[str, ...]]) -> list[list[Panel | None]]:
    """The panels in a grid: a row for each word of the last key but one and those before it, a column for each of the last."""
    if len(places[0]) == 1:
        columns = min(ACROSS, len(panels))
        filled = panels + [None] * (-len(panels) % columns)
        return [filled[i : i + columns] for i in range(0, len(filled), columns)]
    rows, columns_of = (
        list(dict.fromkeys(place[:-1] for place in places)),
        list(dict.fromkeys(place[-1] for place in places)),
    )
    grid: list[list[Panel | None]] = [[None] * len(columns_of) for _ in rows]
    for panel, place in zip(panels, places, strict=True):
        grid[rows.index(place[:-1])][columns_of.index(place[-1])] = panel
    return grid
