"""Loggers: what each tracker's own files say after a run, after one that was stopped, and while the tracker is away.

Those of wandb and mlflow run where they are installed: pip install -c constraints.txt '.[dev,wandb,mlflow]'; pytest tests/test_loggers.py
"""

from __future__ import annotations

import struct
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pytest
from PIL import Image

from diffsde.build import check
from diffsde.errors import UserError
from diffsde.loggers import (
    LOGGERS,
    LoggedStep,
    Logger,
    MLflow,
    NoLogger,
    Recorder,
    Session,
    TensorBoard,
    Wandb,
    figures,
)
from diffsde.loggers import logger as loggers

CONFIG = {
    "dataset": {"name": "gmm"},
    "path": {"name": "vp", "rate_min": 0.1},
    "net": {"widths": [16, 8]},
    "cache_dir": None,
    "cache": True,
    "means": [[0.125 * i, -0.125 * i] for i in range(1000)],  # longer than the 6000 characters that MLflow takes
    **{f"knob{i}": i for i in range(120)},  # more than the 100 that it takes at once
}
SUMMARY = {"steps": 60, "loss": {"value": 0.75, "floor": None}, "weight": "unit", "ok": True}
TRACKERS = {"tensorboard": TensorBoard(), "wandb": Wandb(mode="offline"), "mlflow": MLflow()}


class Kept(NamedTuple):
    """What a tracker has of a run folder."""

    config: dict[str, str]
    curves: dict[str, list[tuple[int, float]]]
    figures: dict[str, float]
    pictures: list[tuple[int, int, int]]  # the colour of each
    runs: int
    status: str


@pytest.fixture
def here(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, apart from the user's own settings of any tracker."""
    (here / "work").mkdir()
    monkeypatch.chdir(here / "work")
    for name in ("WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR", "HOME"):
        monkeypatch.setenv(name, str(here / "home"))
    for name in ("WANDB_MODE", "WANDB_API_KEY", "WANDB_PROJECT", "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    return here / "work"


@pytest.fixture(params=TRACKERS)
def tracker(request: pytest.FixtureRequest) -> Logger:
    logger = TRACKERS[request.param]
    for module in logger.modules:
        pytest.importorskip(module, reason=f"needs the extra: pip install 'diffsde[{logger.extra}]'")
    return logger


def never(message: str) -> None:
    raise AssertionError(message)


def begun(logger: Logger, folder: Path, begin_step: int = 0, warn: Callable[[str], None] = never) -> Recorder:
    folder.mkdir(parents=True, exist_ok=True)
    return logger.open(folder, CONFIG, begin_step, warn)


def loss(step: int) -> float:
    return 2.0 ** (-step / 64)


def picture(path: Path, colour: tuple[int, int, int]) -> Path:
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(np.full((5, 7, 3), colour, np.uint8)).save(path)
    return path


def only_colour(file: Any) -> tuple[int, int, int]:
    pixels = np.asarray(Image.open(file).convert("RGB"))
    assert pixels.shape == (5, 7, 3)
    (colour,) = {tuple(int(part) for part in pixel) for pixel in pixels.reshape(-1, 3)}
    return colour


# Readers: each tracker's own, but for wandb's.


def accumulated(folder: Path) -> dict[str, list[tuple[int, Any]]]:
    """What TensorBoard's pages get of a folder of event files, in which there is nothing else: (step, array) by tag."""
    module = "tensorboard.backend.event_processing.plugin_event_accumulator"
    reader = pytest.importorskip(
        module, reason="needs TensorBoard itself, which reads the files: pip install tensorboard"
    )
    assert all(".tfevents." in path.name for path in folder.iterdir())
    read = reader.EventAccumulator(str(folder), size_guidance={reader.TENSORS: 0}).Reload()  # 0: all, no sample of them
    array = pytest.importorskip("tensorboard.util.tensor_util").make_ndarray
    return {
        tag: [(event.step, array(event.tensor_proto)) for event in read.Tensors(tag)] for tag in read.Tags()["tensors"]
    }


def curves_of(tags: dict[str, list[tuple[int, Any]]]) -> dict[str, list[tuple[int, float]]]:
    numbers = {tag: found for tag, found in tags.items() if found[0][1].dtype == np.float32 and not found[0][1].ndim}
    return {tag: [(step, float(x)) for step, x in found] for tag, found in numbers.items()}


def read_tensorboard(folder: Path) -> Kept:
    import io

    tags = accumulated(folder / "tensorboard")
    curves = curves_of(tags)
    ((_, table),) = tags["config/text_summary"]  # more would be a config that was written twice
    pictures = [parts[2] for tag, found in tags.items() if tag.startswith("plots/") for _, parts in found]
    last = {tag: curves.pop(tag)[-1][1] for tag in list(curves) if tag.startswith("summary/")}
    return Kept(
        dict(row.strip("| ").split(" | ", 1) for row in table.item().decode().splitlines()[2:]),
        curves,
        last,
        [only_colour(io.BytesIO(picture)) for picture in pictures],  # after its width and height
        1,
        "FINISHED" if last else "KILLED",
    )


def written(path: Path) -> Path:
    """The file of wandb once there is something in it: another process writes it, up to some 0.1 s after the run's end."""
    import time

    for _ in range(100):
        if path.stat().st_size > 7:
            break
        time.sleep(0.05)
    return path


def wandb_records(path: Path) -> Iterator[Any]:
    """The log format of LevelDB after a header of 7 bytes: blocks of 32 KiB of (checksum, length, kind, piece).

    Read here, since wandb has had no reader in Python since 0.30; `test_wandb_itself_reads_the_same` holds it against the last.
    """
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, whole = written(path).read_bytes(), 7, b""
    while at + 7 <= len(data):
        if (left := 32768 - at % 32768) < 7:
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last piece
            yield Record.FromString(whole)
            whole = b""


def read_wandb(folder: Path) -> Kept:
    import json

    curves: dict[str, list[tuple[int, float]]] = {}
    config, last, ids, images, status = {}, {}, set(), [], ""
    for path in sorted((folder / "wandb").glob("offline-run-*/*.wandb")):
        for record in wandb_records(path):
            kind = record.WhichOneof("record_type")
            if kind == "run":
                ids.add(record.run.run_id)
                config |= {item.key: json.loads(item.value_json) for item in record.run.config.update}
            elif kind == "history":
                values = {(i.key or ".".join(i.nested_key)): json.loads(i.value_json) for i in record.history.item}
                for key, value in values.items():
                    if key.startswith("plots/") and key.endswith(".path"):
                        images.append(only_colour(path.parent / "files" / value))
                    elif not key.startswith(("_", "plots/")):
                        curves.setdefault(key, []).append((values["_step"], value))
            elif kind == "summary":
                named = {(i.key or ".".join(i.nested_key)): json.loads(i.value_json) for i in record.summary.update}
                last |= {key: value for key, value in named.items() if key.startswith("summary/")}
            elif kind == "exit":
                status = "FINISHED" if record.exit.exit_code == 0 else "KILLED"
    words = {key: value if isinstance(value, str) else json.dumps(value) for key, value in config.items()}
    assert words.pop("folder") == str(folder)
    words.pop("_wandb")
    return Kept(words, curves, last, images, len(ids), status)


def read_mlflow(folder: Path) -> Kept:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{Path.cwd()}/outputs/mlflow/mlflow.db")
    experiment = client.get_experiment_by_name("diffsde")
    runs = [r for r in client.search_runs([experiment.experiment_id]) if r.data.tags["folder"] == str(folder)]
    run = runs[0]
    values = {
        key: [(entry.step, entry.value) for entry in client.get_metric_history(run.info.run_id, key)]
        for key in run.data.metrics
    }
    files = sorted(Path.cwd().glob(f"outputs/mlflow/artifacts/{run.info.run_id}/artifacts/plots/*.png"))
    assert len(client.list_artifacts(run.info.run_id, "plots")) == len(files)
    return Kept(
        run.data.params,
        {key: curve for key, curve in values.items() if not key.startswith("summary/")},
        {key: curve[-1][1] for key, curve in values.items() if key.startswith("summary/")},
        [only_colour(file) for file in files],
        len(runs),
        run.info.status,
    )


READERS = {"tensorboard": read_tensorboard, "wandb": read_wandb, "mlflow": read_mlflow}


def kept(logger: Logger, folder: Path) -> Kept:
    return READERS[logger.extra](folder)


def test_what_goes_in_comes_out(tracker: Logger, here: Path) -> None:
    """Config, losses, figures and pictures, read back from what the tracker wrote; nothing beside it."""
    folder = here / "outputs" / "run"
    with begun(tracker, folder) as recorder:
        for step in (10, 20, 30):
            recorder.log(step, {"loss": loss(step), "rate": -float(step)})
        recorder.finish(SUMMARY, [picture(folder / "plots" / "loss.png", (200, 30, 99))])
    assert recorder.about
    found = kept(tracker, folder)
    means = found.config.pop("means")
    assert means.startswith("[[0.0, -0.0], [0.125, -0.125],") and (len(means) >= 6000)
    assert found.config == {
        "dataset.name": "gmm", "path.name": "vp", "path.rate_min": "0.1", "net.widths": "[16, 8]", "cache_dir": "null",
        **{f"knob{i}": str(i) for i in range(120)}, "cache": found.config["cache"],
    }  # fmt: skip
    assert found.config["cache"].lower() == "true"
    assert set(found.curves) == {"loss", "rate"}
    assert [step for step, _ in found.curves["loss"]] == [10, 20, 30]
    np.testing.assert_allclose([value for _, value in found.curves["loss"]], [loss(s) for s in (10, 20, 30)], rtol=1e-7)
    assert found.curves["rate"] == [(10, -10.0), (20, -20.0), (30, -30.0)]
    assert found.figures == {"summary/steps": 60.0, "summary/loss.value": 0.75}
    assert found.pictures == [(200, 30, 99)] and found.runs == 1 and found.status == "FINISHED"
    assert [entry.name for entry in here.iterdir()] == ["outputs"]


def test_runs_that_are_open_at_once_are_apart(tracker: Logger, here: Path) -> None:
    """The members of an ensemble, trained by one program."""
    folders = [here / "outputs" / "sweep" / name for name in "01"]
    with begun(tracker, folders[0]) as first, begun(tracker, folders[1]) as second:
        for step in (10, 20):
            first.log(step, {"loss": loss(step)})
            second.log(step, {"loss": -loss(step)})
    for folder, sign in zip(folders, (1, -1), strict=True):
        curve = kept(tracker, folder).curves["loss"]
        assert [step for step, _ in curve] == [10, 20]
        np.testing.assert_allclose([value for _, value in curve], [sign * loss(10), sign * loss(20)], rtol=1e-7)


@pytest.mark.parametrize("checkpoint", [0, 20])
def test_a_run_that_goes_on_is_one_run_with_no_step_twice(tracker: Logger, here: Path, checkpoint: int) -> None:
    """Stopped at step 40 with a checkpoint at 20 (or none), twice; then to the end: every step once, in order."""
    folder = here / "outputs" / "run"
    for begin_step in (0, checkpoint):
        with begun(tracker, folder, begin_step) as recorder:
            for step in range(begin_step + 10, 41, 10):
                recorder.log(step, {"loss": loss(step)})
        assert kept(tracker, folder).status == "KILLED"
    with begun(tracker, folder, checkpoint) as recorder:
        for step in range(checkpoint + 10, 61, 10):
            recorder.log(step, {"loss": loss(step)})
        recorder.finish(SUMMARY, [picture(folder / "plots" / "loss.png", (1, 2, 3))])
    found = kept(tracker, folder)
    assert found.runs == 1 and found.status == "FINISHED" and found.config["path.name"] == "vp"
    assert [step for step, _ in found.curves["loss"]] == [10, 20, 30, 40, 50, 60]
    np.testing.assert_allclose([value for _, value in found.curves["loss"]], [loss(s) for s in range(10, 61, 10)])
    assert found.figures["summary/loss.value"] == 0.75 and found.pictures == [(1, 2, 3)]


def test_two_folders_are_two_runs(tracker: Logger, here: Path) -> None:
    for name, value in (("a", 1.0), ("b", 2.0)):
        with begun(tracker, here / "outputs" / name) as recorder:
            recorder.log(10, {"loss": value})
    for name, value in (("a", 1.0), ("b", 2.0)):
        assert kept(tracker, here / "outputs" / name).curves == {"loss": [(10, value)]}


def test_an_error_in_training_is_its_own_and_marks_the_run(tracker: Logger, here: Path) -> None:
    """The error passes through; what was logged before it is there."""
    with pytest.raises(ZeroDivisionError), begun(tracker, here / "run") as recorder:
        recorder.log(10, {"loss": 1.0})
        raise ZeroDivisionError
    found = kept(tracker, here / "run")
    assert found.curves["loss"] == [(10, 1.0)] and found.status in ("KILLED", "FAILED")


def test_tensorboard_shows_what_was_logged_last(here: Path) -> None:
    """Of a run that went on from step 20: its lines from there on, in place of those that were logged before."""
    pytest.importorskip("tensorboardX", reason="needs the extra: pip install 'diffsde[tensorboard]'")
    for begin_step, last in ((0, 40), (20, 60)):
        with begun(TensorBoard(), here / "run", begin_step) as recorder:
            for step in range(begin_step + 10, last + 1, 10):
                recorder.log(step, {"loss": float(step + begin_step)})
    shown = read_tensorboard(here / "run").curves["loss"]
    assert shown == [(10, 10.0), (20, 20.0), (30, 50.0), (40, 60.0), (50, 70.0), (60, 80.0)]


def test_wandb_itself_reads_the_same(here: Path) -> None:
    """wandb's own reader, which checks the checksums too, agrees with `wandb_records` about a file of several blocks."""
    pytest.importorskip("wandb", reason="needs the extra: pip install 'diffsde[wandb]'")
    reason = "wandb has had no reader in Python since 0.30: pip install wandb==0.28.0"
    datastore = pytest.importorskip("wandb.sdk.internal.datastore", reason=reason)
    with begun(Wandb(mode="offline"), here / "run") as recorder:
        for step in range(600):
            recorder.log(step, {"loss": loss(step)})
        recorder.finish(SUMMARY, [])
    (path,) = (here / "run" / "wandb").glob("offline-run-*/*.wandb")
    found = list(wandb_records(path))
    assert path.stat().st_size > 2 * 32768 and len(found) > 600
    reader = datastore.DataStore()
    reader.open_for_scan(str(path))
    kind = type(found[0])
    assert [kind.FromString(data) for data in iter(reader.scan_data, None)] == found
    reader.close()


def test_mlflow_without_its_database_does_not_stop_training(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The database goes away and comes back: one warning, and every line in the end."""
    for module in MLflow.modules:
        pytest.importorskip(module, reason="needs the extra: pip install 'diffsde[mlflow]'")
    monkeypatch.setattr(loggers, "RETRY", 0.0)
    monkeypatch.setattr(loggers, "SHARE", 1.0)
    said: list[str] = []
    database = here / "outputs" / "mlflow" / "mlflow.db"
    with begun(MLflow(), here / "run", warn=said.append) as recorder:
        recorder.log(10, {"loss": 1.0})
        away = database.rename(here / "away.db")
        recorder.log(20, {"loss": 2.0})
        recorder.log(30, {"loss": 3.0})
        away.replace(database)
        recorder.log(40, {"loss": 4.0})
    assert len(said) == 1 and said[0].startswith("logger=mlflow: ") and "\n" not in said[0]
    assert read_mlflow(here / "run").curves["loss"] == [(10, 1.0), (20, 2.0), (30, 3.0), (40, 4.0)]


@pytest.mark.parametrize(
    ("logger", "says"),
    [
        (Wandb(mode="online"), "logger=wandb: No API key configured"),
        (MLflow(tracking_uri="http://127.0.0.1:9"), "logger=mlflow: API request"),
    ],
    ids=["wandb", "mlflow"],
)
def test_a_tracker_that_cannot_begin_is_refused_in_one_line(logger: Logger, says: str, here: Path) -> None:
    """No account, no server: said before training begins."""
    for module in logger.modules:
        pytest.importorskip(module, reason=f"needs the extra: pip install 'diffsde[{logger.extra}]'")
    with pytest.raises(UserError) as error:
        begun(logger, here / "run")
    assert str(error.value).startswith(says) and "\n" not in str(error.value)


# What holds without any tracker installed.


class Clock:
    """A clock that only moves when it is told to."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now


class Flaky(Session):
    """Takes `seconds` of the clock for each call, and fails while `away`."""

    def __init__(self, clock: Clock, seconds: float = 0.0) -> None:
        self.clock, self.seconds, self.away = clock, seconds, False
        self.lines: list[LoggedStep] = []
        self.calls, self.outcome = 0, ""
        self.figures: dict[str, float] = {}

    def _call(self) -> None:
        self.clock.now += self.seconds
        self.calls += 1
        if self.away:
            raise ConnectionError("no route\nto host")

    def take(self, lines: list[LoggedStep]) -> None:
        self._call()
        self.lines += lines

    def finish(self, step: int, figures: dict[str, float], pictures: list[Path]) -> None:
        self._call()
        self.figures = figures

    def close(self, outcome: str) -> None:
        self.outcome = outcome
        self._call()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(loggers, "time", clock)
    return clock


def test_a_tracker_that_goes_away_is_warned_of_once_and_gets_all_lines_in_the_end(clock: Clock) -> None:
    """Away for 200 of 300 s: tried once a minute, and nothing is lost, doubled or out of order."""
    session, said = Flaky(clock), []
    with Recorder("flaky", session, 0, said.append) as recorder:
        for step in range(300):
            session.away = 50 <= step < 250
            calls = session.calls
            recorder.log(step, {"loss": float(step)})
            clock.now += 1.0
            assert session.calls - calls <= 1
            if step == 249:
                assert session.calls - 50 == 4  # at 50, 110, 170 and 230 s
        recorder.finish({}, [])
    assert said == ["logger=flaky: no route; training goes on, and metrics.jsonl has every line"]
    assert [(line.step, line.time) for line in session.lines] == [(step, 1000.0 + step) for step in range(300)]
    assert session.outcome == "finished"


def test_what_never_arrives_is_counted(clock: Clock) -> None:
    session, said = Flaky(clock), []
    with Recorder("flaky", session, 0, said.append) as recorder:
        recorder.log(1, {"loss": 1.0})
        session.away = True
        for step in (2, 3, 4):
            recorder.log(step, {"loss": 1.0})
        recorder.finish({"loss": 1.0}, [])
    assert [line.step for line in session.lines] == [1]
    assert len(said) == 2 and said[1] == "logger=flaky lacks the last 3 lines of metrics.jsonl"


def test_a_slow_tracker_takes_a_tenth_of_the_time(clock: Clock) -> None:
    """0.5 s a request and 0.05 s a chunk of training: at most a tenth of the time goes to it, and no line is lost."""
    session = Flaky(clock, seconds=0.5)
    with Recorder("flaky", session, 0, never) as recorder:
        for step in range(2000):
            clock.now += 0.05
            recorder.log(step, {"loss": 1.0})
        total = clock.now - 1000.0
        assert 0.05 < 0.5 * session.calls / total < 0.11
    assert [line.step for line in session.lines] == list(range(2000))


@pytest.mark.parametrize(
    ("error", "finished", "outcome"),
    [(None, True, "finished"), (None, False, "stopped"), (KeyboardInterrupt, False, "stopped"), (ValueError, True, "failed")],
)  # fmt: skip
def test_the_outcome_is_told(clock: Clock, error: type[BaseException] | None, finished: bool, outcome: str) -> None:
    session = Flaky(clock)
    try:
        with Recorder("flaky", session, 0, never) as recorder:
            if finished:
                recorder.finish({}, [])
            if error:
                raise error
    except (KeyboardInterrupt, ValueError):
        pass
    assert session.outcome == outcome


def test_none_writes_nothing(here: Path) -> None:
    with begun(NoLogger(), here / "run") as recorder:
        recorder.log(10, {"loss": 1.0})
        recorder.finish(SUMMARY, [])
    assert recorder.about == "" and list((here / "run").iterdir()) == []


def test_a_missing_extra_is_one_line_that_says_what_to_install(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that is not there; and a mere folder of its name, as wandb leaves behind, is not the module."""

    class Absent(NoLogger):
        extra: ClassVar[str] = "wandb"
        modules: ClassVar[tuple[str, ...]] = ("json", "wandb_that_is_not_there")

    line = r"^logger=wandb needs wandb_that_is_not_there: pip install 'diffsde\[wandb\]'$"
    with pytest.raises(UserError, match=line):
        begun(Absent(), here / "run")
    (here / "wandb_that_is_not_there").mkdir()
    monkeypatch.syspath_prepend(str(here))
    with pytest.raises(UserError, match=line):
        begun(Absent(), here / "run")


def test_names_are_the_extras_of_the_package() -> None:
    """The line of a missing extra names one that pyproject.toml has."""
    text = (Path(__file__).parent.parent / "pyproject.toml").read_text()
    extras = tomllib.loads(text)["project"]["optional-dependencies"]
    for name, kind in LOGGERS.items():
        assert kind.extra == name
        assert name in extras or not kind.modules


def test_figures_are_the_numbers_of_a_summary() -> None:
    assert figures(SUMMARY) == {"summary/steps": 60.0, "summary/loss.value": 0.75}


def test_an_unknown_mode_is_refused() -> None:
    check(Wandb(mode="offline"))
    with pytest.raises(UserError, match=r"mode is 'ofline' \(did you mean 'offline'\?\)"):
        check(Wandb(mode="ofline"))


def test_train_logs_what_metrics_jsonl_says(here: Path) -> None:
    """The verb itself: the losses of metrics.jsonl, the figures of summary.json and the curve's picture."""
    import json

    from diffsde.cli.main import main

    pytest.importorskip("tensorboardX", reason="needs the extra: pip install 'diffsde[tensorboard]'")
    words = ["train", "logger=tensorboard", "steps=30", "batch_size=64", "net.widths=[16]", "log_every=10"]
    assert main([*words, "hydra.run.dir=run"]) == 0
    lines = [json.loads(line) for line in (here / "run" / "metrics.jsonl").read_text().splitlines()]
    summary = json.loads((here / "run" / "summary.json").read_text())
    tags = accumulated(here / "run" / "tensorboard")
    curves = curves_of(tags)
    assert [step for step, _ in curves["loss"]] == [line["step"] for line in lines] == [10, 20, 30]
    np.testing.assert_allclose([value for _, value in curves["loss"]], [line["loss"] for line in lines], rtol=1e-6)
    assert curves["summary/loss.value"] == [(30, pytest.approx(summary["loss"]["value"]))]
    assert {"plots/loss", "config/text_summary"} <= tags.keys()
