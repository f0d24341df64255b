"""What a run is made of that its config does not hold and that can change under it: data's scale and times, the run of its pairs, its teacher."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from diffsde.couplings import RunPairs
from diffsde.datasets import Snapshots
from diffsde.datasets.scaling import Scaling, same_scaling
from diffsde.errors import UserError
from diffsde.runs import folder
from diffsde.runs.restore import check_times
from diffsde.runs.run_pairs import teacher_of
from diffsde.runs.teachers import fingerprint
from diffsde.runs.train_config import TrainConfig
from diffsde.training import Run

ANOTHER = "begin another run, in another folder or with resume=false"


def made_of(chosen: TrainConfig, run: Run) -> dict[str, Any]:
    """What is kept in config.json of a run that begins. Raises UserError."""
    found: dict[str, Any] = {}
    if isinstance(chosen.dataset, Snapshots):
        found["times"] = chosen.dataset.trained_times.tolist()
    if isinstance(chosen.coupling, RunPairs):
        found["teacher"] = teacher_of(chosen.coupling)
    if (teacher := run.problem.teacher) is not None:
        found["distilled_from"] = fingerprint(teacher)
    return found


def check_made_of(place: Path, chosen: TrainConfig, now: dict[str, Any]) -> None:
    """Raise UserError where the run in `place` was begun with other times of snapshots, or pairs of another run, or another teacher, than `now`."""
    then = folder.read_made_of(place)
    check_times(place, chosen)
    if "teacher" in then and then["teacher"] != now.get("teacher"):
        assert isinstance(chosen.coupling, RunPairs)
        raise UserError(
            f"coupling.run: '{chosen.coupling.run}' would make other pairs than when '{place}' was begun: it has been trained on"
            f" since, or pairs are made another way now; {ANOTHER}"
        )
    if then.get("distilled_from") != now.get("distilled_from"):
        raise UserError(
            f"teacher: '{chosen.teacher}' is another than when '{place}' was begun, trained on since or of other data; {ANOTHER}"
        )


def check_scaling(place: Path, scaling: Scaling | None) -> None:
    """Raise UserError where the data of the run in `place` have another mean or std than when it was begun."""
    if not same_scaling(scaling, folder.read_scaling(place)):
        raise UserError(
            f"run: the data have changed since '{place}' was begun, their mean or std is another; {ANOTHER}"
        )
