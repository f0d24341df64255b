"""Weights & Biases, online or offline."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any, ClassVar

from diffsde.errors import suggestion
from diffsde.loggers.logger import LoggedStep, Logger, Outcome, Session, flat_config, remember, remembered, run_title
from diffsde.types import choice

MODES = ("online", "offline")
UPLOAD = 120.0  # seconds that the end of a run waits for its uploads; what is left can be sent by `wandb sync`


class WandbRun(Session):
    """A run whose id, and the last step that it was given, are kept in <run folder>/wandb.json.

    Online, a run that goes on continues the same run, and its server knows the last step. Offline there is nobody to
    ask: each start makes a folder of its own in <run folder>/wandb, all of one id.
    """

    def __init__(self, logger: Wandb, folder: Path, config: dict[str, Any]) -> None:
        import wandb

        self._kept, self._image = folder / "wandb.json", wandb.Image
        known = remembered(self._kept) or {"id": uuid.uuid4().hex[:8], "step": -1}
        self._id = str(known["id"])
        self._run = wandb.init(
            project=logger.project,
            entity=logger.entity,
            group=logger.group,
            mode=logger.mode,  # type: ignore[arg-type, unused-ignore]
            id=self._id,
            resume="allow",
            name=run_title(config),
            config=flat_config(config) | {"folder": str(folder)},
            dir=str(folder),
            reinit="create_new",  # the members of an ensemble are open at once; by default all would get the first one's
            settings=wandb.Settings(console="off", silent=True, finish_timeout=UPLOAD),
        )
        self._step = int(known["step"]) if self._run.offline else self._run.starting_step - 1
        remember(self._kept, {"id": self._id, "step": self._step})
        self.about = f"wandb sync {folder}/wandb/offline-run-*" if self._run.offline else str(self._run.url)

    def take(self, lines: list[LoggedStep]) -> None:
        for line in lines:
            if line.step > self._step:
                self._run.log(line.values, step=line.step)
                self._step = line.step
        remember(self._kept, {"id": self._id, "step": self._step})

    def finish(self, step: int, figures: dict[str, float], pictures: list[Path]) -> None:
        if pictures:
            self._run.log({f"plots/{path.stem}": self._image(str(path)) for path in pictures}, step=step)
        self._run.summary.update(figures)

    def close(self, outcome: Outcome) -> None:
        self._run.finish(exit_code=0 if outcome == "finished" else 1)


@choice
class Wandb(Logger):
    """wandb: a run of `project`, whose files lie in <run folder>/wandb.

    mode: online (needs `wandb login`), offline (no account; `wandb sync` sends it later); null: $WANDB_MODE, or online.
    entity: the user or team, null for your default; group: what the page of the project groups by.
    """

    extra: ClassVar[str] = "wandb"
    modules: ClassVar[tuple[str, ...]] = ("wandb",)

    project: str = "diffsde"
    entity: str | None = None
    group: str | None = None
    mode: str | None = None

    def check(self) -> None:
        if self.mode is not None and self.mode not in MODES:
            raise ValueError(f"mode is '{self.mode}'{suggestion(self.mode, MODES)}")

    def begin(self, folder: Path, config: dict[str, Any], begin_step: int) -> Session:
        return WandbRun(self, folder, config)
