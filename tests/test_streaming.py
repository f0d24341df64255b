"""Data that stay on the disk: every example once an epoch, the same whoever reads it, whenever, and however it was stopped."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import psutil
import pytest
from PIL import Image
from scipy import stats

from diffsde import checkpoints
from diffsde.cli.main import composed, main
from diffsde.datasets import Batch, Buffer, Examples, streaming
from diffsde.datasets.arrays import ArrayFile
from diffsde.datasets.dataset import Source
from diffsde.datasets.folder import ImageFolder
from diffsde.datasets.streaming import Stream, batches, part
from diffsde.errors import UserError
from diffsde.runs import training_loop
from diffsde.runs.train_config import train_choices
from diffsde.training import examples, start, train_steps
from diffsde.verbs.train_setup import prepare
from tests.test_posterior_targets import by_hand
from tests.test_resume import two_processes

N, B = 1000, 64
SMALL = ["train", "dataset=array", "dataset.file=points.npy", "batch_size=32", "net.widths=[16]", "steps=150"]
STREAM = [*SMALL, "dataset.stream=true", "log_every=30", "checkpoint_every=40", "threads=1"]


def rows_themselves(size: int = N) -> Source:
    """Examples that are their own numbers, up to a billion."""
    return Source(size, 0, lambda rows: Examples(rows.astype(np.int32)[:, None]))


def rows_of(elements: Any, steps: range) -> np.ndarray:
    return np.concatenate([elements[s].x[:, 0] for s in steps])


@pytest.fixture
def here(here: Path) -> Path:
    """A folder with 300 points in the plane, which 150 batches of 32 pass 16 times."""
    np.save("points.npy", np.random.default_rng(0).normal(3, 2, (300, 2)).astype(np.float32))
    return here


def test_an_epoch_is_a_permutation_and_each_is_another() -> None:
    rows = rows_of(batches(rows_themselves(), 5, B), range(3 * N // B + 1))
    epochs = [rows[i * N : (i + 1) * N] for i in range(3)]
    for epoch in epochs:
        np.testing.assert_array_equal(np.sort(epoch), np.arange(N))
    other = rows_of(batches(rows_themselves(), 6, B), range(3 * N // B + 1))
    everything = [np.arange(N), *epochs, *(other[i * N : (i + 1) * N] for i in range(3))]
    for i, one in enumerate(everything):
        for another in everything[:i]:  # of two permutations one place agrees on average
            assert np.sum(one == another) < 10
    assert abs(np.corrcoef(epochs[0], np.arange(N))[0, 1]) < 0.1


def test_processes_share_each_batch() -> None:
    """Two read disjoint halves, which one after another are what one process would read."""
    alone = batches(rows_themselves(), 5, B)
    halves = [batches(rows_themselves(), 5, B, rank, 2) for rank in range(2)]
    for s in (0, 1, 15, 16, 10_000_019):
        np.testing.assert_array_equal(np.concatenate([half[s].x for half in halves]), alone[s].x)


@pytest.mark.parametrize("size", [2, 3, 7, 300, 10_000])
def test_data_of_any_size_pass_in_whole_epochs(size: int) -> None:
    """Smaller than a batch or larger than what is put in order at once: each epoch has each example once, whoever reads."""
    row = streaming.shuffled(size, 5)
    count = max(3, 40_000 // size)
    epochs = row(0, count * size).reshape(count, size)
    np.testing.assert_array_equal(np.sort(epochs, axis=1), np.tile(np.arange(size), (count, 1)))
    again = streaming.shuffled(size, 5)
    for begin, end in ((16_383, 16_390), (39_000, 39_512), (3, 4), (0, 20_000)):
        np.testing.assert_array_equal(again(begin, end), epochs.reshape(-1)[begin:end])
    other = streaming.shuffled(size, 6)(0, count * size)
    assert np.mean(other == epochs.reshape(-1)) < 1 / size + 0.01


def test_every_order_of_an_epoch_is_equally_likely() -> None:
    """The 24 orders of 4 examples, in 24,000 epochs of two blocks' seeds and more."""
    epochs = streaming.shuffled(4, 1)(0, 4 * 24_000).reshape(-1, 4)
    _, counts = np.unique(epochs @ [64, 16, 4, 1], return_counts=True)
    assert len(counts) == 24 and stats.chisquare(counts).pvalue > 1e-3
    follows = epochs[1:, 0] * 4 + epochs[:-1, 0]  # and one says nothing of the next
    assert stats.chisquare(np.bincount(follows, minlength=16)).pvalue > 1e-3


def test_a_very_large_order_is_grains(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which holds nothing in memory; it too has each example once an epoch, and two processes read what one would."""
    monkeypatch.setattr(streaming, "PERMUTED_WHOLE", 500)
    alone = batches(rows_themselves(), 5, B)
    np.testing.assert_array_equal(np.sort(rows_of(alone, range(16))[:N]), np.arange(N))
    halves = [batches(rows_themselves(), 5, B, rank, 2) for rank in range(2)]
    np.testing.assert_array_equal(np.concatenate([half[20].x for half in halves]), alone[20].x)


def test_few_examples_are_read_as_fast_as_many(here: Path) -> None:
    """300 points in batches of 512: a step of the order and the file alone took 90 ms of CPU time when each example was
    placed by itself, 45 s in all; a small network's step takes 3.
    """
    elements = batches(ArrayFile(file="points.npy", stream=True).source(), 0, 512)
    begin = time.process_time()
    for step in range(500):
        assert elements[step].x.shape == (512, 2)
    assert time.process_time() - begin < 1.5


@pytest.mark.parametrize(("capacity", "first"), [(1, 0), (7, 0), (7, 9), (30, 13)])
def test_buffers_hold_each_step_s_batch(capacity: int, first: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long they are and wherever a run goes on; nothing before it, after it, or far ahead is read."""
    seen: list[np.ndarray] = []

    def read(rows: np.ndarray) -> Examples:
        seen.append(rows)
        return rows_themselves().read(rows)

    monkeypatch.setattr(streaming, "BUFFER_EXAMPLES", capacity * B)
    before, last, expected = threading.active_count(), 40, batches(rows_themselves(), 5, B)
    stream = Stream(Source(N, 0, read), 5, B, 100, (first, last), None)
    assert stream.capacity == capacity
    seen.clear()
    for step in range(first, last):
        np.testing.assert_array_equal(stream.buffer(step).at(step).x, expected[step].x)
        assert len(seen) <= (step // capacity + 1) * capacity - first + max(capacity, streaming.reader_threads()) + 1
    assert sorted(np.concatenate(seen)) == sorted(rows_of(expected, range(first, last)))
    stream.close()
    assert threading.active_count() <= before + streaming.reader_threads()


def test_a_buffer_is_bounded_in_bytes() -> None:
    wide = Source(N, 0, lambda rows: Examples(np.zeros((len(rows), 256, 256, 3), np.uint8)))
    stream = Stream(wide, 0, B, 1000, (0, 10), None)
    assert stream.capacity == streaming.BUFFER_BYTES // (B * 256 * 256 * 3)
    stream.close()


@pytest.mark.slow
def test_a_streamed_step_is_the_step_on_those_rows(here: Path) -> None:
    """A buffer of the rows that the run in memory draws gives its losses and parameters, bit for bit."""
    chosen = train_choices(composed("train", [*SMALL[1:], "posterior_points=0"]))
    run, params = prepare(chosen)
    key = [jax.random.split(jax.random.fold_in(run.key, step), 4)[0] for step in range(8)]
    rows = jnp.stack([jax.random.randint(key, (run.batch_size,), 0, 300) for key in key])
    buffered = dataclasses.replace(run, arrays=Buffer(run.arrays.x[rows], None))
    wrong = dataclasses.replace(run, arrays=Buffer(run.arrays.x[rows[::-1]], None))
    found = [train_steps(one, start(one, jax.tree.map(jnp.copy, params)), 8, 8) for one in (run, buffered, wrong)]
    for ours, theirs in zip(jax.tree.leaves(found[0]), jax.tree.leaves(found[1]), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert np.max(np.abs(found[0][1] - found[2][1])) > 0.01


@pytest.mark.slow
def test_targets_of_a_stream_are_averaged_over_its_batch(here: Path) -> None:
    """A step has no points but those of its batch, in whatever way these are turned: each target is their mean, weighed by
    N(x; alpha z, beta^2 I) in numpy. In memory there are others beside them.
    """
    np.save("images.npy", np.random.default_rng(0).integers(0, 256, (64, 2, 2, 1)).astype(np.uint8))
    words = ["dataset=array", "dataset.file=images.npy", "dataset.flip=true", "batch_size=32", "net=mlp"]
    for more, points in (["dataset.stream=true"], 32), ([], 1024):
        run, _ = prepare(train_choices(composed("train", [*words, *more, "path=ot"])))
        assert run.points == points
        if more:
            run = dataclasses.replace(run, arrays=Batch(jnp.asarray(np.load("images.npy"))[:32], None))
        drawn = examples(run, jax.random.key(0), run.batch_size, run.points)
        z, t = np.asarray(drawn.z, np.float64), np.asarray(drawn.t, np.float64)
        x = [t * z + (1 - t) * eps for t, z, eps in zip(t, z, np.asarray(drawn.eps), strict=True)]
        expected = np.stack([by_hand(x.ravel(), t, 1 - t, z.reshape(32, 4)) for x, t in zip(x, t, strict=True)])
        same = np.abs(np.asarray(drawn.mean).reshape(32, 4) - expected).max(axis=1) < 2e-4
        assert same.all() if more else same.mean() < 0.5


def ending(run: Path) -> list[np.ndarray]:
    return [np.asarray(leaf) for leaf in jax.tree.leaves(checkpoints.load(run / "checkpoints", pytest.fail)[1])]


def test_a_run_stopped_within_an_epoch_goes_on_to_the_same_bits(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With buffers of another length besides: they are no part of what is computed."""
    assert main([*STREAM, "hydra.run.dir=whole"]) == 0
    honest, sent = training_loop.progress.Steps.update, []

    def update(self: Any, done: int, note: str = "") -> None:
        honest(self, done, note)
        if done >= 70 and not sent:
            sent.append(done)
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patched:
        patched.setattr(training_loop.progress.Steps, "update", update)
        assert main([*STREAM, "hydra.run.dir=run"]) == 143
    (stopped,) = checkpoints.steps(here / "run" / "checkpoints")[-1:]
    assert 70 <= stopped < 150 and stopped * 32 % 300
    monkeypatch.setattr(streaming, "BUFFER_EXAMPLES", 11 * 32)
    assert main([*STREAM, "hydra.run.dir=run"]) == 0
    for ours, theirs in zip(ending(here / "run"), ending(here / "whole"), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_what_needs_all_data_says_so(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stream = ["dataset=array", "dataset.file=points.npy", "dataset.stream=true"]
    assert main(["sample", "run=oracle", "path=ot", *stream, "n=10", "threads=1"]) == 2
    assert "needs every point in memory at once; say dataset.stream=false" in capsys.readouterr().err
    np.save("points.npy", np.asfortranarray(np.load("points.npy")))
    assert main(STREAM) == 2
    assert "is in Fortran order" in capsys.readouterr().err
    np.savez("points.npz", x=np.load("points.npy"))
    assert main([*STREAM, "dataset.file=points.npz"]) == 2
    said = capsys.readouterr().err
    assert "stream=true needs a .npy file" in said and said.count("\n") == 1
    assert not list(here.glob("outputs/*/*/*"))


def test_without_grain_one_line_says_how_to_get_it(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    honest = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "grain" else honest(name, *rest)
    )
    assert main(STREAM) == 2
    said = capsys.readouterr().err
    assert "pip install 'diffsde[stream]'" in said and said.count("\n") == 1 and not (here / "outputs").exists()


def test_a_bad_row_is_named_before_anything_is_trained(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    points = np.zeros((400_000, 2), np.float32)
    points[:, 0] = np.arange(len(points)) % 7
    held = set(np.random.default_rng(0).choice(len(points), streaming.PART_EXAMPLES, replace=False).tolist())
    coming = rows_of(batches(rows_themselves(len(points)), 0, 32), range(100))
    bad = next(int(row) for row in coming[1000:] if row not in held)
    points[bad, 1] = np.nan
    np.save("points.npy", points)
    assert main(STREAM) == 2
    said = capsys.readouterr()
    assert f"first in row {bad}" in said.err and said.err.count("\n") == 1
    points[bad, 1] = 1
    np.save("points.npy", points)
    assert main([*STREAM, "steps=2"]) == 0
    assert "16,384 of 400,000 examples at random" in capsys.readouterr().out


def test_a_part_is_a_bounded_sample_without_repetition() -> None:
    size = 10**9
    seen = np.asarray(part(rows_themselves(size)).x[:, 0])
    assert len(np.unique(seen)) == len(seen) == 16_384
    assert abs(seen.mean() / size - 0.5) < 5 / np.sqrt(12 * len(seen))
    np.testing.assert_array_equal(np.sort(part(rows_themselves()).x[:, 0]), np.arange(N))


def test_a_file_of_64_gib_costs_no_memory(here: Path) -> None:
    """The file is sparse, so that it has no more on the disk than its last image; what is read of it is what is asked for."""
    with open("images.npy", "wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (1 << 24, 64, 64)}
        np.lib.format.write_array_header_2_0(file, header)
        file.truncate(file.tell() + 2**36)
        file.seek(-(64**2), os.SEEK_END)
        file.write(bytes([7]) * 64**2)
    assert Path("images.npy").stat().st_size > 2**36
    process = psutil.Process()
    before = process.memory_info().rss
    dataset = ArrayFile(file="images.npy", stream=True)
    stream = Stream(dataset.source(), 0, B, 100, (0, 20), None)
    for step in range(20):
        assert stream.buffer(step).at(step).x.shape == (B, 64, 64, 1)
    stream.close()
    assert int(dataset.source().read(np.array([2**24 - 1])).x.max()) == 7
    assert process.memory_info().rss - before < 2**28


def test_images_and_labels_are_those_in_memory(here: Path) -> None:
    random = np.random.default_rng(1)
    for label, name in enumerate(("cat", "dog", "emu")):
        (here / "pictures" / name).mkdir(parents=True)
        for i in range(4 + label):
            Image.fromarray(random.integers(0, 256, (5, 6, 3), dtype=np.uint8)).save(here / f"pictures/{name}/{i}.png")
    pixels, y = random.integers(0, 256, (20, 4, 3), dtype=np.uint8), random.integers(0, 3, 20)
    np.save("images.npy", pixels)
    np.save("y.npy", y)
    np.testing.assert_array_equal(ArrayFile(file="images.npy", labels="y.npy").load().x[..., 0], pixels)
    for dataset in (ImageFolder(folder="pictures"), ArrayFile(file="images.npy", labels="y.npy")):
        whole, streamed = dataset.load(), dataclasses.replace(dataset, stream=True)
        rows = np.array([7, 0, 14, 7])
        some = streamed.source().read(rows)
        np.testing.assert_array_equal(some.x, whole.x[rows])
        np.testing.assert_array_equal(some.y, whole.y[rows])
        assert some.x.dtype == np.uint8 and streamed.classes(None) == dataset.classes(whole) == 3
        for ours, theirs in zip(streamed.load(), whole, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    np.save("y.npy", np.arange(19))
    with pytest.raises(UserError, match=r"dataset.labels: 'y.npy' has labels y of int64 and shape \(19,\)"):
        ArrayFile(file="images.npy", labels="y.npy", stream=True).source()


@pytest.mark.slow
def test_two_processes_are_as_one(here: Path) -> None:
    """Each reads its half of every batch; the losses are those of one process but for rounding."""
    assert main([*STREAM, "hydra.run.dir=alone"]) == 0
    assert two_processes([*STREAM, "hydra.run.dir=both"]) == [0, 0]
    losses = [
        [json.loads(line)["loss"] for line in (here / run / "metrics.jsonl").read_text().splitlines()]
        for run in ("alone", "both")
    ]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-4)
