"""Files and folders that a config names: one that is not there is refused before anything slow is imported."""

from __future__ import annotations

import os
from typing import Any

from diffsde import knobs, plugins
from diffsde.errors import UserError, suggestion
from diffsde.state import STATE

READ = tuple(
    key for key in knobs.FILES if key not in ("cache_dir", "data_dir")
)  # the others are made where they are not there
MOST = 1000  # names beside a missing file that are compared with it


def check(config: dict[str, Any], where: str = "") -> None:
    """Raise UserError for the first file or folder that a config names and that is not there, of the user's own choices none."""
    for key, value in config.items():
        place = f"{where}.{key}" if where else str(key)
        if isinstance(value, dict):
            check(value, place)
        elif key in READ and not plugins.is_own(knobs.group_at(where), str(config.get("name", ""))):
            for said, each in knobs.entries(value):
                if names_a_file(str(key), each):
                    refuse_absent(place + said, str(key), each)


def names_a_file(key: str, value: Any) -> bool:
    """Whether the value of a key in READ names a file or a folder; labels may be a column, test a share, and keep a half."""
    if not isinstance(value, str) or not value:
        return False
    if key in ("labels", "keep"):
        return value.lower().endswith((".npy", ".png"))
    return key != "test" or not knobs.is_number(value)


def refuse_absent(place: str, key: str, value: str) -> None:
    """Raise UserError where there is no such file or folder, with the name beside it that is nearest."""
    kind = "folder" if key == "folder" else "file or folder" if key == "test" else "file"
    there = {"folder": os.path.isdir, "file": os.path.isfile, "file or folder": os.path.exists}[kind]
    if there(value):
        return
    if os.path.isdir(value):
        images = "; a folder of images is dataset=image_folder dataset.folder=DIR" if place == "dataset.file" else ""
        raise UserError(f"{place}: '{value}' is not a file but a folder; give the path of a file{images}")
    if os.path.islink(value) and not os.path.exists(value):
        raise UserError(
            f"{place}: '{value}' is a link to '{os.readlink(value)}', where nothing is; give the path of a {kind}"
        )
    folder, name = os.path.split(value)
    try:
        beside = sorted(os.listdir(folder or "."))[:MOST]
    except OSError:
        beside = []
    stem, ending = os.path.splitext(name)
    stems = [
        os.path.splitext(each)[0] for each in beside if each.endswith(ending)
    ]  # so that an ending alone is not near
    near = suggestion(stem, stems, most=0).replace("'?)", f"{ending}'?)")
    raise UserError(f"{place}: '{value}' is not a {kind}{near}; give the path of one")


def remember(config: Any, by_user: bool) -> None:
    """Remember who named the data of a config that can be downloaded: the user's own words, or the folder of a run, which may be
    a stranger's and brings nothing from the network, nor into a folder of its choice, that the user has not named.
    """
    if isinstance(config, list):
        for each in config:
            remember(each, by_user)
    elif isinstance(config, dict):
        name, place = config.get("name"), config.get("data_dir")
        if isinstance(name, str) and isinstance(place, str | None):
            STATE.asked[name, place] = by_user or STATE.asked.get((name, place), False)
        for each in config.values():
            remember(each, by_user)


def may_download(name: str, data_dir: str | None) -> bool:
    """Whether files of the data may be brought from the network: not where a run's folder alone has named them."""
    return STATE.asked.get((name, data_dir), True)
