"""TensorBoard: an event file in the run folder, by tensorboardX (which needs neither TensorFlow nor PyTorch)."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from diffsde.loggers.logger import LoggedStep, Logger, Outcome, Session, flat_config
from diffsde.types import choice


class EventFile(Session):
    """Event files in `folder`, one each time that the run is taken up.

    Written with tensorboardX's EventsWriter, since its SummaryWriter writes from a thread: that thread dies of a full
    disk unseen, and training then waits for it for ever.
    """

    def __init__(self, folder: Path, config: dict[str, Any], begin_step: int) -> None:
        from tensorboardX import summary
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        self.about = f"tensorboard --logdir {folder}"
        self._summary, self._event, self._config = summary, Event, flat_config(config)
        folder.mkdir(parents=True, exist_ok=True)
        # without a suffix, a run that goes on within the same second would overwrite its file
        self._writer = EventsWriter(str(folder / "events"), f".{time.time_ns()}")
        # a session's start makes readers drop what was logged from that step on
        first = begin_step + 1 if begin_step else 0
        self._write(time.time(), first, session_log=SessionLog(status=SessionLog.START))
        if begin_step == 0:
            table = [
                "| key | value |",
                "| --- | --- |",
                *(f"| {key} | {value} |" for key, value in self._config.items()),
            ]
            self._write(time.time(), 0, summary=summary.text("config", "\n".join(table)))
        self._writer.flush()

    def _write(self, at: float, step: int, **content: Any) -> None:
        self._writer.write_event(self._event(wall_time=at, step=step, **content))

    def take(self, lines: list[LoggedStep]) -> None:
        for line in lines:
            for key, value in line.values.items():
                self._write(line.time, line.step, summary=self._summary.scalar(key, value))
        self._writer.flush()

    def finish(self, step: int, figures: dict[str, float], pictures: list[Path]) -> None:
        from PIL import Image

        now = time.time()
        for key, value in figures.items():
            self._write(now, step, summary=self._summary.scalar(key, value))
        for path in pictures:
            pixels = np.asarray(Image.open(path).convert("RGB"))
            self._write(now, step, summary=self._summary.image(f"plots/{path.stem}", pixels, dataformats="HWC"))
        for part in self._summary.hparams(self._config, figures):  # the table of runs on the HPARAMS page
            self._write(now, 0, summary=part)
        self._writer.flush()

    def close(self, outcome: Outcome) -> None:
        self._writer.close()


@choice
class TensorBoard(Logger):
    """tensorboard: event files in <run folder>/tensorboard. A run that goes on hides what it logs anew."""

    extra: ClassVar[str] = "tensorboard"
    modules: ClassVar[tuple[str, ...]] = ("tensorboardX",)

    def begin(self, folder: Path, config: dict[str, Any], begin_step: int) -> Session:
        return EventFile(folder / "tensorboard", config, begin_step)
