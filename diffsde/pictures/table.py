"""The table of pictures: by kind of data, each with its file, its drawing function, and whether it is drawn by default."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from diffsde.datasets import Dataset, Snapshots, are_images
from diffsde.datasets.snapshots import Snapshot
from diffsde.errors import UserError, suggestion
from diffsde.pictures import flows, images, points, posterior, processes, snapshots, training
from diffsde.pictures.coordinates import check_count, numbers_of
from diffsde.pictures.drawn import Drawn
from diffsde.runs import files, progress

# Errors that a picture may meet without a fault in its code: a warning is given, and the other pictures are still drawn.
MISHAPS = (UserError, OSError, ValueError, ArithmeticError, MemoryError, RuntimeError)


class Picture(NamedTuple):
    """A picture's file, what it shows, and the function that draws it; unasked: whether it is drawn by default."""

    file: str
    shows: str
    draw: Callable[[Any], Any]
    unasked: bool = False


SETS = ("default", "all", "none")  # words for sets of pictures
LINE, PLANE, TABLE, IMAGES = "points on a line", "points in the plane", "points of many coordinates", "images"
SNAPSHOTS = "points at several times"
RUN, RUN_ON_IMAGES, NO_PICTURES = "a run", "a run on images", "points of this shape"
RUN_IN_PLANE = "a run on points on a line or in the plane"
FLOW_PLANE, FLOW_POINTS = "points in the plane of a discrete flow", "points of a discrete flow"
FLOW_LINE, FLOW_IMAGES = "points of a discrete flow on a line", "images of a discrete flow"
MEASURED_PLANE, MEASURED_IMAGES = "measured points in the plane", "measured images"
PATHS, PATHS_IN_PLANE = "paths on a line or in more than two dimensions", "paths in the plane"
OF_PATHS = {
    "paths": Picture("paths.png", "paths of the process", processes.process_paths, True),
    "law": Picture("law.png", "their law beside the exact one", processes.process_law, True),
    "autocorrelation": Picture("autocorrelation.png", "how fast a path forgets", processes.process_autocorrelation),
    "film": Picture("cloud.gif", "the cloud of states through time", processes.process_film),
}
PICTURES: dict[str, dict[str, Picture]] = {
    LINE: {
        "trajectories": Picture(
            "trajectories.png", "ways by the ODE and the SDE against t", points.point_trajectories_1d, True
        ),
        "samples": Picture("samples.png", "samples under the density of the data", points.point_samples_1d, True),
        "marginals": Picture("marginals.png", "samples under the true density, at four times", points.point_marginals),
    },
    PLANE: {
        "trajectories": Picture("trajectories.png", "ways by the ODE and the SDE", points.point_trajectories, True),
        "marginals": Picture(
            "marginals.png", "the true density over samples, at four times", points.point_marginals, True
        ),
        "film": Picture("cloud.gif", "the cloud of samples from noise to data", points.point_film, True),
    },
    TABLE: {
        "corner": Picture("corner.png", "coordinates one by one and two by two", points.point_corner, True),
        "marginals": Picture(
            "marginals.png", "two coordinates: the truth over samples, at four times", points.point_marginals
        ),
    },
    SNAPSHOTS: {
        "trajectories": Picture(
            "trajectories.png", "the snapshots, and ways through all of them", snapshots.snapshot_trajectories, True
        ),
        "marginals": Picture(
            "marginals.png", "each snapshot above the samples at its time", snapshots.snapshot_marginals, True
        ),
    },
    IMAGES: {
        "samples": Picture("samples.png", "samples beside data, a row for each label", images.image_samples, True),
        "denoising": Picture("denoising.png", "x_t and E[z|x_t] of a few samples", images.image_denoising, True),
        "film": Picture("forming.gif", "the same of more, as a film", images.image_film),
        "comparison": Picture("ode_or_sde.png", "the ODE and an SDE from the same noise", images.image_comparison),
        "interpolations": Picture(
            "interpolations.png", "what lies between two starting noises", images.image_interpolations
        ),
        "neighbours": Picture("neighbours.png", "samples beside the nearest training images", images.image_neighbours),
    },
    MEASURED_PLANE: {
        "posterior": Picture("posterior.png", "samples of each posterior", posterior.posterior_points, True)
    },
    MEASURED_IMAGES: {
        "posterior": Picture("posterior.png", "samples of each posterior", posterior.posterior_images, True)
    },
    FLOW_PLANE: {
        "samples": Picture("samples.png", "data, samples, and the density of the flow", flows.flow_plane, True)
    },
    FLOW_LINE: {"samples": Picture("samples.png", "samples, data, and the density of the flow", flows.flow_line, True)},
    FLOW_POINTS: {"corner": Picture("corner.png", "coordinates one by one and two by two", flows.flow_corner, True)},
    FLOW_IMAGES: {
        "samples": Picture("samples.png", "samples beside data, a row for each label", flows.flow_images, True)
    },
    RUN: {"loss": Picture("loss.png", "the loss along training", training.run_loss, True)},
    RUN_IN_PLANE: {
        "loss": Picture("loss.png", "the loss along training", training.run_loss, True),
        "marginals": Picture(
            "marginals.png", "x_t of the data above samples of the trained field", training.run_marginals
        ),
    },
    RUN_ON_IMAGES: {
        "loss": Picture("loss.png", "the loss along training", training.run_loss, True),
        "samples": Picture("samples.png", "samples of the trained field", training.run_samples, True),
    },
    NO_PICTURES: {},
    PATHS: {name: each for name, each in OF_PATHS.items() if name != "film"},
    PATHS_IN_PLANE: OF_PATHS,
}


def kind_of_flow(shape: tuple[int, ...]) -> str:
    """The kind of pictures, a key of PICTURES, for samples of a discrete flow."""
    if are_images(shape):
        return FLOW_IMAGES
    return FLOW_LINE if shape == (1,) else FLOW_PLANE if shape == (2,) else FLOW_POINTS


def kind_of(shape: tuple[int, ...], measured: bool = False, dataset: Dataset | None = None) -> str:
    """The kind of pictures, a key of PICTURES, for samples of a shape, of a dataset; measured: for samples of posteriors."""
    if isinstance(dataset, Snapshots | Snapshot):
        return SNAPSHOTS
    if are_images(shape):
        return IMAGES if not measured else MEASURED_IMAGES if shape[-1] in (1, 3) else NO_PICTURES
    if measured:
        return MEASURED_PLANE if shape == (2,) else NO_PICTURES
    return {1: LINE, 2: PLANE}.get(shape[0], TABLE) if len(shape) == 1 else NO_PICTURES


def chosen_pictures(words: tuple[str, ...], kind: str) -> dict[str, Picture]:
    """The pictures of a kind that the words of `pictures=` name: default, all, names. Raises UserError for another word."""
    able = PICTURES[kind]
    for name in words:
        if name in able or name in SETS:
            continue
        if not able:
            raise UserError(f"pictures: there are none of {kind}; leave it out, or say pictures=none")
        raise UserError(f"pictures: '{name}' is not a picture of {kind}{suggestion(name, [*able, *SETS])}")
    whole, usual = "all" in words, "default" in words
    return {name: each for name, each in able.items() if whole or name in words or (usual and each.unasked)}


def check_coordinates(chosen: str | tuple[str, ...], shape: tuple[int, ...], dataset: Dataset, measured: bool) -> None:
    """Raise UserError where points of the shape have no coordinates to choose from, or not the chosen ones."""
    kind = kind_of(shape, measured, dataset)
    if measured or kind not in (TABLE, SNAPSHOTS) or shape[0] <= 2:
        what = "an inverse problem" if measured else kind
        raise UserError(
            f"coordinates chooses among more than two coordinates; pictures of {what} show all, leave it out"
        )
    if not isinstance(chosen, str):
        numbers_of(chosen, dataset.column_names(), shape[0])
        check_count(chosen)


def more_pictures(chosen: dict[str, Picture], kind: str) -> str:
    """A line that names the other pictures of the kind; empty where there are none."""
    more = [name for name in PICTURES[kind] if name not in chosen]
    return f"more pictures: pictures=all, or some of [{','.join(more)}]" if more else ""


def scene_of(
    drawn: Drawn, chosen: dict[str, Picture]
) -> images.ImageScene | points.PointScene | snapshots.SnapshotScene:
    """The scene of the chosen pictures of samples: of images, of points, or of points through snapshots."""
    if isinstance(drawn.dataset, Snapshots | Snapshot):
        return snapshots.SnapshotScene(drawn)
    return images.ImageScene(drawn, tuple(chosen)) if are_images(drawn.field.shape) else points.PointScene(drawn)


def draw_pictures(scene: Any, chosen: dict[str, Picture], out: Path) -> list[Path]:
    """Draw pictures of a scene, write each into the folder `out`, and print its path; the paths.

    A picture that cannot be drawn gives a warning, and the others are still drawn.
    """
    paths = []
    with progress.working(f"drawing {', '.join(chosen)}"):
        for picture in chosen.values():
            try:
                paths.append(save_figure(out / picture.file, picture.draw(scene)))
            except MISHAPS as error:
                progress.warn(f"no {picture.file}: {' '.join(str(error).split()) or type(error).__name__}")
            else:
                progress.say(f"  picture  {progress.shown_path(paths[-1])}")
    return paths


def save_figure(path: Path, drawing: Any) -> Path:
    """Write a matplotlib figure or a film to `path`, and return the path."""
    save = drawing.savefig if hasattr(drawing, "savefig") else drawing.save
    return files.write(path, save)
