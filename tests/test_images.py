"""Image datasets: bytes to points and back, labels that stay with their images, and files that are right or refused."""

from __future__ import annotations

import contextlib
import dataclasses
import gzip
import hashlib
import http.server
import importlib.util
import json
import os
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from scipy import stats

from diffsde.build import check
from diffsde.cli.main import composed, main
from diffsde.cli.rerun import again
from diffsde.datasets import DATASETS, ArrayFile, Dataset, Examples, digits, draw_many, finite, mnist, point_shape
from diffsde.datasets.digits import Digits
from diffsde.datasets.folder import ImageFolder
from diffsde.datasets.idx import IdxFile
from diffsde.datasets.mnist import MNIST, Collection, FashionMNIST, load_files
from diffsde.errors import UserError
from diffsde.evaluation.metric import Subject
from diffsde.evaluation.transport import W2, pairs
from diffsde.runs import folder, records
from diffsde.runs.data_report import described
from diffsde.state import STATE

RNG = np.random.default_rng(0)


def refused(load: Callable[[], Any], *words: str) -> str:
    """The one line that it is refused with; every word is in it."""
    with pytest.raises(UserError) as refusal:
        load()
    message = str(refusal.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message
    return message


def images(folder: Path, values: np.ndarray, labels: np.ndarray | None = None, **fields: Any) -> ArrayFile:
    """dataset=array of these bytes."""
    np.savez(folder / "images.npz", x=values, **({} if labels is None else {"y": labels}))
    return ArrayFile(file=str(folder / "images.npz"), **fields)


def drawn(data: Dataset, count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray | None]:
    """Points and labels of one key."""
    x, y = jax.jit(data.draw_labelled, static_argnums=2)(data.load(), jax.random.key(seed), count)
    return np.asarray(x), None if y is None else np.asarray(y)


# What all of them share ----------------------------------------------------------------------------------------------


def test_every_byte_is_a_point_of_its_own_in_the_interval(tmp_path: Path) -> None:
    """0 is -1, 255 is 1, both exactly; the 254 between are evenly spaced, and rounding brings every byte back."""
    data = images(tmp_path, np.arange(256, dtype=np.uint8).reshape(256, 1, 1))
    assert data.load().x.dtype == jnp.uint8 and point_shape(data, data.load()) == (1, 1, 1)
    values = np.unique(drawn(data, 20_000)[0])
    assert values.dtype == np.float32 and len(values) == 256 and values[0] == -1 and values[-1] == 1
    np.testing.assert_allclose(np.diff(values), 2 / 255, rtol=1e-4)
    np.testing.assert_array_equal(np.round((values + 1) * 127.5), np.arange(256))


def test_labels_stay_with_their_images(tmp_path: Path) -> None:
    """A class that can be read off the image is that which comes with it, also of mirrored ones; `draw` gives the same
    points for the same key.
    """
    labels = np.arange(40) % 7
    values = RNG.integers(0, 256, (40, 2, 4, 3), dtype=np.uint8)
    values[..., 0] = (labels * 30)[:, None, None]
    for flip in (False, True):
        data = images(tmp_path, values, labels, flip=flip)
        x, y = drawn(data, 3000)
        assert data.classes(data.load()) == 7 and y is not None and y.dtype == np.int32
        np.testing.assert_array_equal(np.round((x[:, 0, 0, 0] + 1) * 127.5), y * 30)
        np.testing.assert_array_equal(x, draw_many(data, data.load(), jax.random.key(0), 3000))
        assert set(y) == set(range(7))


def test_flip_mirrors_half_of_what_is_drawn(tmp_path: Path) -> None:
    """Left for right, never upside down; of the very images that the same key draws without it; independently of which."""
    values = RNG.integers(0, 256, (5, 3, 4, 2), dtype=np.uint8)
    plain, _ = drawn(images(tmp_path, values), 2000)
    turned, _ = drawn(images(tmp_path, values, flip=True), 2000)
    as_is = np.all(turned == plain, axis=(1, 2, 3))
    mirrored = np.all(turned == plain[:, :, ::-1], axis=(1, 2, 3))
    assert np.all(as_is ^ mirrored)
    assert stats.binomtest(int(mirrored.sum()), len(mirrored)).pvalue > 1e-3
    which = np.argmax(np.all(plain[:, None] == np.unique(plain, axis=0), axis=(2, 3, 4)), axis=1)
    counts = [np.bincount(which[part], minlength=5) for part in (mirrored, as_is)]
    assert stats.chi2_contingency(counts).pvalue > 1e-3


def test_points_are_all_that_can_be_drawn(tmp_path: Path) -> None:
    """Every image, and with flip its mirror image."""
    values = RNG.integers(0, 256, (6, 2, 3), dtype=np.uint8)
    for flip in (False, True):
        data = images(tmp_path, values, flip=flip)
        every = {point.tobytes() for point in np.asarray(data.points(data.load()))}
        assert {point.tobytes() for point in drawn(data, 500)[0]} == every and len(every) == (12 if flip else 6)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("part", [1 << 20, 10])
def test_measured_moments_are_those_of_the_points(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flip: bool, part: int
) -> None:
    """Mean and root-mean-square std are those of `points`, though summed part by part from bytes."""
    monkeypatch.setattr(finite, "PART", part)
    ramp = np.linspace(0, 250, 5).astype(np.uint8)  # left is darker: the mirror images change the moments
    data = images(tmp_path, ramp + RNG.integers(0, 6, (30, 4, 5), dtype=np.uint8), flip=flip)
    points = np.asarray(data.points(data.load()), np.float64)
    found = data.moments(data.load(), jax.random.key(0))
    assert found.mean.shape == (4, 5, 1) and found.mean.dtype == jnp.float32
    np.testing.assert_allclose(found.mean, points.mean(axis=0), atol=1e-6)
    assert float(found.std) == pytest.approx(np.sqrt(points.var(axis=0).mean()), rel=1e-6)


def test_dequantised_bytes_are_uniform_over_their_bins(tmp_path: Path) -> None:
    """Of the very bytes that the same key draws without it, (k + u - 1/2)/127.5 - 1; measured with the variance of u."""
    values = RNG.integers(0, 256, (6, 2, 3), dtype=np.uint8)
    plain, noisy = (images(tmp_path, values, flip=True, dequantise=on) for on in (False, True))
    u = ((drawn(noisy, 4000)[0] - drawn(plain, 4000)[0]) * 127.5 + 0.5).ravel()
    assert stats.kstest(u[:: len(u) // 2000], "uniform", args=(-1e-4, 1 + 2e-4)).pvalue > 1e-3
    assert abs(np.corrcoef(u.reshape(4000, 6)[:, :2].T)[0, 1]) < 0.08, "every number has its own"
    before, after = (data.moments(data.load(), jax.random.key(0)) for data in (plain, noisy))
    np.testing.assert_array_equal(before.mean, after.mean)
    assert float(after.std**2 - before.std**2) == pytest.approx(1 / (12 * 127.5**2), rel=1e-2)
    refused(lambda: noisy.points(noisy.load()), "dataset.dequantise", "leave it false")
    refused(images(tmp_path, np.ones((6, 2, 2)), dequantise=True).load, "dataset.dequantise", "only images")


def test_moments_in_double_precision(tmp_path: Path, x64: None) -> None:
    """With precision=float64 points and moments are double."""
    data = images(tmp_path, RNG.integers(0, 256, (6, 2, 3), dtype=np.uint8))
    assert data.draw(data.load(), jax.random.key(0), 2).dtype == jnp.float64
    assert data.moments(data.load(), jax.random.key(0)).mean.dtype == jnp.float64


def test_only_some_have_a_test_split_or_labels(tmp_path: Path) -> None:
    """The others say so."""
    for data in (DATASETS["moons"](), images(tmp_path, RNG.integers(0, 256, (6, 2, 3), dtype=np.uint8))):
        refused(data.held_out, "no test split", "dataset.test=")
        assert data.classes(data.load()) == 0 and drawn(data, 3)[1] is None


def test_what_is_loaded_is_kept_until_its_file_changes(tmp_path: Path) -> None:
    """The jobs of a sweep share one array; another file of the same name is read."""
    values = RNG.integers(0, 256, (6, 2, 3), dtype=np.uint8)
    data = images(tmp_path, values)
    first = data.load()
    assert data.load().x is first.x and images(tmp_path, values) == data
    os.utime(data.file, ns=(1, 1))
    assert data.load().x is not first.x
    images(tmp_path, 255 - values)
    np.testing.assert_array_equal(data.load().x[..., 0], 255 - values)


# dataset=array -------------------------------------------------------------------------------------------------------


def test_arrays_of_bytes_are_images(tmp_path: Path) -> None:
    """uint8 (n, H, W) and (n, H, W, C) are; other shapes and types are numbers as they stand."""
    for shape in ((4, 5, 6), (4, 5, 6, 1), (4, 5, 6, 3)):
        values = RNG.integers(0, 256, shape, dtype=np.uint8)
        np.save(tmp_path / "x.npy", values)
        x = ArrayFile(standardise=False, file=str(tmp_path / "x.npy")).load().x
        np.testing.assert_array_equal(x, values.reshape(4, 5, 6, -1))
        assert x.dtype == jnp.uint8
    np.save(tmp_path / "x.npy", values[:, 0, 0])
    np.testing.assert_array_equal(
        ArrayFile(standardise=False, file=str(tmp_path / "x.npy")).load().x, np.float32(values[:, 0, 0])
    )
    np.save(tmp_path / "x.npy", np.zeros((4, 3, 32, 32), np.uint8))
    refused(ArrayFile(file=str(tmp_path / "x.npy")).load, "x.npy", "(4, 3, 32, 32)", "channels, the last axis")


def test_an_archive_has_points_x_and_labels_y(tmp_path: Path) -> None:
    """Whatever `key` names the points; alone, `y` is points."""
    points, labels = RNG.normal(size=(6, 2)), np.array([2, 0, 1, 1, 0, 2], np.uint8)
    np.savez(tmp_path / "a.npz", x=points, y=labels, z=2 * points)
    for key, values in (("", points), ("x", points), ("z", 2 * points)):
        found = ArrayFile(file=str(tmp_path / "a.npz"), key=key, standardise=False).load()
        np.testing.assert_array_equal(found.x, np.float32(values))
        np.testing.assert_array_equal(found.y, labels)
    np.savez(tmp_path / "b.npz", y=points)
    found = ArrayFile(file=str(tmp_path / "b.npz"), standardise=False).load()
    np.testing.assert_array_equal(found.x, np.float32(points))
    assert found.y is None


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (np.zeros(5), ["float64", "shape (5,)", "whole numbers of shape (6,)"]),
        (np.zeros(6), ["float64", "whole numbers"]),
        (np.zeros(5, int), ["shape (5,)", "(6,)"]),
        (np.zeros((6, 1), int), ["shape (6, 1)"]),
        (np.array([0, 1, -1, 0, 0, 0]), ["from -1 to 1", "0, 1, ..."]),
        (np.array([0, 1, 2, 3, 4, 6]), ["from 0 to 6"]),
        (np.array([2**40, 1, 2, 3, 4, 6]), ["to 1099511627776"]),
        (np.array(["a"] * 6), ["<U1", "whole numbers"]),
    ],
    ids=["short floats", "floats", "short", "column", "negative", "more than points", "beyond int32", "words"],
)
def test_labels_that_are_none_are_refused(tmp_path: Path, labels: np.ndarray, words: list[str]) -> None:
    """With what they are and what they must be, where they are needed; where they are not, the points are read alone."""
    asked = images(tmp_path, np.ones((6, 2, 2), np.uint8), labels, conditional=True)
    refused(asked.load, "images.npz", "labels y", *words)
    unasked = dataclasses.replace(asked, conditional=False)
    assert unasked.load().y is None and words[0] in unasked.notes()[0]


def test_what_does_not_go_with_images_is_refused(tmp_path: Path) -> None:
    """Mirroring numbers."""
    refused(images(tmp_path, np.ones((6, 2, 2)), flip=True).load, "dataset.flip", "float64", "(6, 2, 2)", "uint8")


# MNIST ---------------------------------------------------------------------------------------------------------------


def test_mnist_is_mnist(mnist: Path) -> None:
    """Mean 0.1307 and std 0.3081 over all pixels in [0, 1], by which everybody normalises it; its first labels; its test
    split's count of each digit, as published.
    """
    data = MNIST()
    arrays, test = data.load(), data.held_out()
    assert arrays.x.shape == (60_000, 28, 28, 1) and test.x.shape == (10_000, 28, 28, 1)
    pixels = np.asarray(arrays.x) / np.float32(255)
    assert pixels.mean(dtype=float) == pytest.approx(0.1307, abs=5e-5)
    assert pixels.std(dtype=float) == pytest.approx(0.3081, abs=5e-5)
    assert arrays.y is not None and test.y is not None and data.classes(arrays) == 10
    np.testing.assert_array_equal(arrays.y[:10], [5, 0, 4, 1, 9, 2, 1, 3, 1, 4])
    assert np.bincount(test.y).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert data.load().x is arrays.x
    found = data.moments(arrays, jax.random.key(0))
    assert float(found.mean.mean()) == pytest.approx(2 * 0.1307 - 1, abs=1e-4)


def test_mnist_in_the_place_of_fashion_mnist_is_recognised(mnist: Path) -> None:
    """Their files have the same names."""
    line = refused(FashionMNIST(data_dir=str(mnist)).load, "dataset=fashion_mnist", "train-images-idx3-ubyte of mnist")
    assert str(mnist / "train-images-idx3-ubyte.gz") in line


def test_real_files_in_each_others_place(mnist: Path, tmp_path: Path) -> None:
    """Labels where images belong, tests where training belongs: the line says what is there."""
    for name, other in (("train-images-idx3", "train-labels-idx1"), ("train-labels-idx1", "t10k-labels-idx1")):
        folder = tmp_path / name
        folder.mkdir()
        for file in ("train-images-idx3", "train-labels-idx1"):
            (folder / f"{file}-ubyte.gz").symlink_to(mnist / f"{other if file == name else file}-ubyte.gz")
        refused(MNIST(data_dir=str(folder)).load, f"{name}-ubyte.gz'", f"it holds {other}-ubyte of mnist")


def idx(values: np.ndarray, kind: int = 8) -> bytes:
    return struct.pack(f">BBBB{values.ndim}I", 0, 0, kind, values.ndim, *values.shape) + values.tobytes()


TINY = {
    "train-images": RNG.integers(0, 256, (20, 3, 2), dtype=np.uint8),
    "train-labels": RNG.integers(0, 4, 20, dtype=np.uint8),
    "t10k-images": RNG.integers(0, 256, (5, 3, 2), dtype=np.uint8),
    "t10k-labels": RNG.integers(0, 4, 5, dtype=np.uint8),
}
FILES = {name: IdxFile(name, v.shape, hashlib.sha256(idx(v)).hexdigest()) for name, v in TINY.items()}


def tiny(*mirrors: str) -> Collection:
    """MNIST's likes, but small."""
    train, test = ((FILES[f"{split}-images"], FILES[f"{split}-labels"]) for split in ("train", "t10k"))
    return Collection("tiny", mirrors, train, test)


def placed(folder: Path, zipped: bool = True, **changed: bytes) -> Path:
    """A folder of its four files, or of these instead."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, values in TINY.items():
        content = changed.get(name.replace("-", "_"), gzip.compress(idx(values)) if zipped else idx(values))
        (folder / (f"{name}.gz" if zipped else name)).write_bytes(content)
    return folder


def loaded(folder: Path | None, collection: Collection | None = None) -> Examples:
    collection = collection or tiny()
    return load_files(collection, collection.train, None if folder is None else str(folder))


def is_tiny(found: Examples) -> bool:
    assert found.y is not None and found.x.dtype == jnp.uint8 and found.y.dtype == jnp.int32
    return np.array_equal(found.x[..., 0], TINY["train-images"]) and np.array_equal(found.y, TINY["train-labels"])


def test_files_may_be_gzipped_or_plain(tmp_path: Path) -> None:
    """Also one of each, and a plain one that is still called .gz."""
    assert is_tiny(loaded(placed(tmp_path / "a"))) and is_tiny(loaded(placed(tmp_path / "b", zipped=False)))
    (tmp_path / "a" / "train-labels.gz").unlink()
    (tmp_path / "b" / "train-labels").rename(tmp_path / "a" / "train-labels")
    (tmp_path / "b" / "train-images").rename(tmp_path / "a" / "train-images.gz")
    assert is_tiny(loaded(tmp_path / "a"))


WHOLE = idx(TINY["train-images"])
ZIPPED = gzip.compress(WHOLE)
OTHER = bytes([WHOLE[30] ^ 1])
WRONG = {
    "empty": (b"", "no IDX file"),
    "garbage": (b"<html>Not found</html>", "no IDX file"),
    "cut in its header": (WHOLE[:9], "no IDX file"),
    "cut short": (WHOLE[:-1], "cut short"),
    "cut short in zip": (ZIPPED[: len(ZIPPED) // 2], "cut short"),
    "cut in the zip's header": (ZIPPED[:5], "cut short"),
    "only the zip's beginning": (ZIPPED[:2], "cut short"),
    "longer": (WHOLE + b"\0", "longer"),
    "longer in zip": (gzip.compress(WHOLE + b"\0" * 10_000_000), "longer"),
    "damaged zip": (ZIPPED[:40] + bytes(20) + ZIPPED[60:], "damaged"),
    "wrong checksum of the zip": (ZIPPED[:-8] + bytes(4) + ZIPPED[-4:], "damaged"),
    "one bit": (WHOLE[:30] + OTHER + WHOLE[31:], "its sha256 is"),
    "fewer images": (idx(TINY["train-images"][:10]), "shape (10, 3, 2), not bytes (type 8) of shape (20, 3, 2)"),
    "turned images": (idx(TINY["train-images"].swapaxes(1, 2)), "shape (20, 2, 3)"),
    "other numbers": (idx(TINY["train-images"].astype(">i4"), kind=12), "type 12"),
    "the labels": (gzip.compress(idx(TINY["train-labels"])), "it holds train-labels of tiny"),
    "the tests": (gzip.compress(idx(TINY["t10k-images"])), "it holds t10k-images of tiny"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_files_are_named_with_what_is_wrong(tmp_path: Path, name: str) -> None:
    """One line: the file, what is wrong, and what to do; and the file is left alone."""
    content, says = WRONG[name]
    folder = placed(tmp_path / "here", train_images=content)
    refused(lambda: loaded(folder), "dataset=tiny", f"'{folder / 'train-images.gz'}'", says, "dataset.data_dir=")
    assert (folder / "train-images.gz").read_bytes() == content


def test_where_files_are_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """data_dir= alone; else $DIFFSDE_DATA's subfolder and itself; else the user's data folder."""
    monkeypatch.setenv("DIFFSDE_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    wrong = gzip.compress(b"wrong")
    placed(tmp_path / "data")
    assert is_tiny(loaded(None))
    placed(tmp_path / "data", train_images=wrong)
    placed(tmp_path / "data" / "tiny")
    assert is_tiny(loaded(None))
    placed(tmp_path / "data" / "tiny", train_images=wrong)
    assert is_tiny(loaded(placed(tmp_path / "given")))
    placed(tmp_path / "home" / "given")
    assert is_tiny(loaded(Path("~/given")))
    refused(lambda: loaded(None), str(tmp_path / "data" / "tiny" / "train-images.gz"))
    monkeypatch.delenv("DIFFSDE_DATA")
    placed(tmp_path / "xdg" / "diffsde" / "tiny")
    placed(tmp_path / "home" / ".local" / "share" / "diffsde" / "tiny", train_images=wrong)
    assert is_tiny(loaded(None))
    monkeypatch.delenv("XDG_DATA_HOME")
    refused(lambda: loaded(None), str(tmp_path / "home" / ".local" / "share" / "diffsde" / "tiny"))


class Mirror(http.server.BaseHTTPRequestHandler):
    """/good/ has the files; the others fail in their own way."""

    asked: list[str] = []

    def do_GET(self) -> None:
        _, kind, name = self.path.split("/")
        self.asked.append(f"{kind} {name}")
        content = gzip.compress(idx(TINY[name.removesuffix(".gz")]))
        length = len(content)
        match kind:
            case "absent":
                return self.send_error(404)
            case "page":
                content = b"<html>please log in</html>"
                length = len(content)
            case "breaks":
                content = content[: length // 2]
            case "zeros":
                content = b"\0" * 10_000_000
                length = len(content)
            case "swapped":
                content = gzip.compress(idx(TINY["t10k-labels"]))
                length = len(content)
        self.send_response(200)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # the other side has had enough
            self.wfile.write(content)

    def log_message(self, *args: Any) -> None:
        """Nothing: pytest's output is for failures."""


@pytest.fixture
def server() -> Iterator[str]:
    """The address of a server of mirrors on this machine."""
    Mirror.asked.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Mirror) as served:
        thread = threading.Thread(target=served.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{served.server_port}/"
        served.shutdown()
        thread.join()


NOWHERE = "http://127.0.0.1:9/"  # the port that discards: nobody listens


def test_absent_files_are_downloaded_once(
    tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All four, from the first mirror that has each whole, to $DIFFSDE_DATA/<name>; then never again."""
    monkeypatch.setenv("DIFFSDE_DATA", str(tmp_path / "new"))
    bad = ["absent", "page", "breaks", "zeros", "swapped"]
    collection = tiny(NOWHERE, *(f"{server}{kind}/" for kind in bad), f"{server}good/", f"{server}after/")
    assert is_tiny(loaded(None, collection))
    folder = tmp_path / "new" / "tiny"
    assert sorted(path.name for path in folder.iterdir()) == sorted(f"{name}.gz" for name in TINY)
    swaps = Mirror.asked.count("good t10k-labels.gz")  # whose content the swapped mirror has
    assert Mirror.asked == [
        f"{kind} {name}.gz"
        for name in TINY
        for kind in (*bad, *(["good"] if name != "t10k-labels" else ["good"] * swaps))
    ]
    assert f"downloading {server}good/train-images.gz" in capsys.readouterr().out
    Mirror.asked.clear()
    assert is_tiny(loaded(None, collection))
    np.testing.assert_array_equal(load_files(collection, collection.test, None).x[..., 0], TINY["t10k-images"])
    assert not Mirror.asked


def test_files_that_are_there_are_not_downloaded(tmp_path: Path, server: str) -> None:
    """With the two for training, training asks nobody; the tests then bring what is absent, and nothing else."""
    folder = placed(tmp_path / "here")
    for name in ("t10k-images.gz", "t10k-labels.gz"):
        (folder / name).unlink()
    collection = tiny(f"{server}good/")
    assert is_tiny(loaded(folder, collection)) and not Mirror.asked
    load_files(collection, collection.test, str(folder))
    assert Mirror.asked == ["good t10k-images.gz", "good t10k-labels.gz"]


@pytest.mark.parametrize("kind", ["nowhere", "absent", "page", "breaks", "zeros"])
def test_without_a_mirror_it_says_what_to_put_where(tmp_path: Path, server: str, kind: str) -> None:
    """Every name, the folder, and each mirror's reason, in one line; no part of a file is left."""
    address = NOWHERE if kind == "nowhere" else f"{server}{kind}/"
    says = {
        "nowhere": "refused",
        "absent": "404",
        "page": "no IDX file",
        "breaks": "Connection broken",
        "zeros": "larger than the file that is published",
    }
    names = [f"{name}.gz" for name in TINY]
    line = refused(lambda: loaded(tmp_path / "here", tiny(address)), *names, f"'{tmp_path / 'here'}'", says[kind])
    assert address in line and "dataset.data_dir=" in line
    assert not list((tmp_path / "here").glob("*"))


def test_a_folder_that_cannot_be_written_to(tmp_path: Path, server: str) -> None:
    """A file where the folder should be."""
    (tmp_path / "here").write_text("")
    refused(lambda: loaded(tmp_path / "here", tiny(f"{server}good/")), "could not be downloaded", "here")


def test_an_interrupted_download_leaves_nothing(tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C between the last byte and the name."""

    def interrupt(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(mnist, "read_idx", interrupt)
    with pytest.raises(KeyboardInterrupt):
        loaded(tmp_path / "here", tiny(f"{server}good/"))
    assert list((tmp_path / "here").iterdir()) == []


def test_the_command_line_says_it_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """diffsde train dataset=mnist, without files or network."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(mnist.MNIST, "collection", mnist.DIGITS._replace(mirrors=(NOWHERE,)))
    assert main(["train", "dataset=mnist", "dataset.data_dir=files"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "train-images-idx3-ubyte" in error and "'files'" in error
    assert list(tmp_path.iterdir()) == []


def test_a_folder_alone_brings_nothing_from_the_network(
    tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Data that the config.json of a run, or of samples, names; the user's own words do, whichever comes first."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(STATE, "asked", {})
    monkeypatch.setattr(mnist.MNIST, "collection", mnist.DIGITS._replace(mirrors=(f"{server}page/",)))
    words = ["dataset=mnist", "dataset.data_dir=evil/deep", "path=ot", "n=2"]
    own = composed("sample", ["run=oracle", *words])
    for verb, read in (("train", folder.read_config), ("sample", lambda place: again(next(records.every(place))))):
        STATE.asked.clear()
        Path("run").mkdir(exist_ok=True)
        Path("run/config.json").write_text(json.dumps({"format": 4, "verb": verb, "config": own, "directory": "."}))
        data = MNIST(data_dir=read(Path("run"))["dataset"]["data_dir"])
        line = refused(data.load, "files of mnist are absent from 'evil/deep'", "nothing is downloaded")
        assert not Mirror.asked and not Path("evil").exists()
    assert main(line.rpartition("yourself: diffsde ")[2].split()) == 2  # which the line gives, and which is allowed
    assert "could not be downloaded" in capsys.readouterr().err and Mirror.asked
    read(Path("run"))
    refused(data.load, "could not be downloaded")


# Digits --------------------------------------------------------------------------------------------------------------


def test_digits_are_scikit_learns() -> None:
    """Its images without loss, in its order, the last 360 of 1797 for tests."""
    sklearn = pytest.importorskip("sklearn.datasets", reason="scikit-learn is not here: pip install 'diffsde[digits]'")
    theirs = sklearn.load_digits()
    data = Digits()
    train, test = data.load(), data.held_out()
    assert len(train.x) == 1437 and len(test.x) == 360 and data.classes(train) == 10
    ours = np.concatenate([train.x, test.x])[..., 0]
    np.testing.assert_array_equal(np.round(ours / 255 * 16), theirs.images)
    np.testing.assert_array_equal(np.concatenate([train.y, test.y]), theirs.target)
    assert ours.min() == 0 and ours.max() == 255 and point_shape(data, train) == (8, 8, 1)


def test_digits_without_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra is named."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    digits._digits.cache_clear()
    refused(Digits().load, "scikit-learn", "pip install 'diffsde[digits]'")


# A folder of images --------------------------------------------------------------------------------------------------


def saved(path: Path, values: np.ndarray, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values).save(path, **options)
    return path


def grey(height: int = 4, width: int = 6) -> np.ndarray:
    return RNG.integers(0, 256, (height, width), dtype=np.uint8)


def colour(height: int = 4, width: int = 6) -> np.ndarray:
    return RNG.integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("make", [grey, colour])
def test_a_folder_comes_back_pixel_for_pixel(tmp_path: Path, make: Callable[[], np.ndarray]) -> None:
    """PNG files in the order of their names; what is no image, or hidden, is not looked at."""
    values = np.stack([make() for _ in range(5)])
    for i in (3, 0, 4, 1, 2):
        saved(tmp_path / f"{i}.{'PNG' if i % 2 else 'png'}", values[i])
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "._0.png").write_text("a Mac's")
    (tmp_path / ".hidden").mkdir()
    found = ImageFolder(folder=str(tmp_path)).load()
    np.testing.assert_array_equal(found.x, values.reshape(5, 4, 6, -1))
    assert found.x.dtype == jnp.uint8 and found.y is None


def test_jpegs_are_read_too(tmp_path: Path) -> None:
    """Of a flat colour, what comes back is that colour to a few greys."""
    for name in ("a.jpg", "b.JPEG"):
        saved(tmp_path / name, np.full((16, 16, 3), (200, 30, 90), np.uint8), quality=95)
    x = np.asarray(ImageFolder(folder=str(tmp_path)).load().x, int)
    assert x.shape == (2, 16, 16, 3) and np.abs(x - [200, 30, 90]).max() <= 3


def test_subfolders_are_classes(tmp_path: Path) -> None:
    """By name, whatever lies deeper in them."""
    made = {"cat/1.png": 0, "cat/deeper/2.png": 0, "bird/9.png": 1, "bird/8.png": 1, "ape/1.png": 2}
    order = {"cat": 2, "bird": 1, "ape": 0}
    values = {name: saved(tmp_path / name, grey()) and None for name in made}
    data = ImageFolder(folder=str(tmp_path))
    found = data.load()
    assert found.y is not None and data.classes(found) == 3 and len(values) == 5
    pixels = [np.asarray(Image.open(tmp_path / name)) for name in made]
    for name, mine in zip(made, pixels, strict=True):
        [at] = [i for i in range(5) if np.array_equal(found.x[i, ..., 0], mine)]
        assert int(found.y[at]) == order[name.split("/")[0]]


def test_classes_are_in_natural_order_and_what_is_left_out_is_counted(tmp_path: Path) -> None:
    """10 comes after 2, with the colours to show it; files of other kinds and hidden ones are counted."""
    for name, level in (("10", 200), ("2", 100), ("1", 50)):
        for i in range(2):
            saved(tmp_path / name / f"{i}.png", np.full((3, 4), level, np.uint8))
    for name in ("notes.txt", "2/a.gif", "2/b.GIF", "10/.DS_Store"):
        (tmp_path / name).write_text("no image")
    data = ImageFolder(folder=str(tmp_path))
    found = data.load()
    assert found.y is not None and data.class_names() == ("1", "2", "10")
    np.testing.assert_array_equal(np.array([50, 100, 200])[np.asarray(found.y)], np.asarray(found.x)[:, 0, 0, 0])
    assert data.notes() == (
        "3 files were left out, of other kinds (.gif: 2, .txt: 1); 1 file was left out, hidden by a name that begins with a"
        " dot",
    )
    about = data.about(found)
    assert (about["points"], about["shape"], about["classes"]) == (6, [3, 4, 1], 3) and about["images"]
    assert described(about) == f"6 images of 4 x 3 in grey from {tmp_path}; 3 classes: 0 (1), 1 (2), 2 (10)"
    one = ImageFolder(folder=str(saved(tmp_path / "b" / "cat" / "1.png", grey()).parents[1]))
    saved(tmp_path / "b" / "cat" / "2.png", grey())
    assert one.notes() == ("there is one class alone, cat",)


def test_grey_and_colour_together_are_colour(tmp_path: Path) -> None:
    """A grey image among them has three equal channels."""
    a, b = grey(), colour()
    saved(tmp_path / "a.png", a)
    saved(tmp_path / "b.png", b)
    found = np.asarray(ImageFolder(folder=str(tmp_path)).load().x)
    np.testing.assert_array_equal(found[0], np.repeat(a[..., None], 3, axis=2))
    np.testing.assert_array_equal(found[1], b)


def test_size_cuts_the_middle_square_and_scales_it(tmp_path: Path) -> None:
    """A picture of three flat squares side by side gives its middle one, whichever way it lies, of any size; one that has
    the size already comes back pixel for pixel.
    """
    squares = np.repeat(np.repeat([[10, 200, 60]], 30, axis=1), 30, axis=0).astype(np.uint8)
    exact = grey(16, 16)
    saved(tmp_path / "a.png", squares)
    saved(tmp_path / "b.png", squares.T)
    saved(tmp_path / "c.png", exact)
    for size in (16, 45):
        x = np.asarray(ImageFolder(folder=str(tmp_path), size=size).load().x, int)
        assert x.shape == (3, size, size, 1)
        assert np.abs(x[:2, 3:-3, 3:-3] - 200).max() <= 1
        if size == 16:
            np.testing.assert_array_equal(x[2, ..., 0], exact)


def test_halving_averages(tmp_path: Path) -> None:
    """Fine stripes, black and white, become grey when they are scaled down: what is left out is averaged, not dropped."""
    stripes = np.zeros((64, 64), np.uint8)
    stripes[:, ::2] = 255
    for name in "ab":
        saved(tmp_path / f"{name}.png", stripes)
    x = np.asarray(ImageFolder(folder=str(tmp_path), size=8).load().x, float)
    assert np.abs(x - 127.5).max() < 12


def test_cameras_notes_of_what_is_up_are_heeded(tmp_path: Path) -> None:
    """A picture taken on its side, with the note of it, equals the upright one; so do their sizes."""
    upright = colour(4, 6)
    note = Image.Exif()
    note[0x0112] = 6  # to be shown turned by a quarter, clockwise
    saved(tmp_path / "a.png", upright)
    saved(tmp_path / "b.png", np.rot90(upright), exif=note)
    found = np.asarray(ImageFolder(folder=str(tmp_path)).load().x)
    np.testing.assert_array_equal(found[0], upright)
    np.testing.assert_array_equal(found[1], upright)


def test_what_is_transparent_is_white(tmp_path: Path) -> None:
    """Whatever colour lies under it; what is not is as it is."""
    seen = colour(2, 3)
    alpha = np.array([[0, 255, 255], [0, 255, 0]], np.uint8)
    for name in "ab":
        saved(tmp_path / f"{name}.png", np.dstack([seen, alpha]))
    found = np.asarray(ImageFolder(folder=str(tmp_path)).load().x[0])
    np.testing.assert_array_equal(found[alpha == 255], seen[alpha == 255])
    assert np.all(found[alpha == 0] == 255) and found.shape == (2, 3, 3)


def test_the_first_image_of_another_size_is_named(tmp_path: Path) -> None:
    """With both sizes, and what would make them equal."""
    for i, width in enumerate((6, 6, 7, 8)):
        saved(tmp_path / f"{i}.png", grey(4, width))
    refused(
        ImageFolder(folder=str(tmp_path)).load, f"'{tmp_path / '2.png'}' is 7 x 4", "0.png' is 6 x 4", "dataset.size="
    )


def test_folders_that_cannot_be_are_refused(tmp_path: Path) -> None:
    """No folder, no images, images beside classes, a class without one."""
    refused(ImageFolder(folder=str(tmp_path / "absent")).load, "absent' is not a folder")
    saved(tmp_path / "one.png", grey())
    refused(ImageFolder(folder=str(tmp_path / "one.png")).load, "one.png' is not a folder")
    refused(ImageFolder(folder=str(tmp_path)).load, "at least 2 images", ".png, .jpg, .jpeg")
    saved(tmp_path / "cat" / "two.png", grey())
    refused(ImageFolder(folder=str(tmp_path)).load, "'one.png'", "beside its subfolders")
    (tmp_path / "one.png").rename(tmp_path / "cat" / "one.png")
    (tmp_path / "dog").mkdir()
    refused(ImageFolder(folder=str(tmp_path)).load, f"'{tmp_path / 'dog'}' is a class without an image")
    with pytest.raises(UserError, match=r"dataset\.folder="):
        check(ImageFolder())
    with pytest.raises(UserError, match="size is 0"):
        check(ImageFolder(folder="x", size=0))


def test_damaged_images_are_named(tmp_path: Path) -> None:
    """Cut off anywhere, garbage, empty, or of more bits than a byte: one line with the file, never a traceback."""
    whole = {name: saved(tmp_path / name, colour(40, 40)).read_bytes() for name in ("b.png", "b.jpg")}
    for name, content in whole.items():
        folder = tmp_path / name.replace(".", "_")
        saved(folder / "a.png", colour(40, 40))
        cuts = [content[: int(part * len(content))] for part in (0, 0.001, 0.01, 0.1, 0.5, 0.9)]
        for i, wrong in enumerate([*cuts, b"no image", bytes(range(256)) * 8]):
            (folder / name).write_bytes(wrong)
            os.utime(folder / name, ns=(i, i))
            refused(ImageFolder(folder=str(folder)).load, f"'{folder / name}' cannot be read")
        for i in range(60):
            at = int(RNG.integers(len(content)))
            (folder / name).write_bytes(content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :])
            os.utime(folder / name, ns=(100 + i, 0))
            try:
                ImageFolder(folder=str(folder)).load()  # a wrong pixel is nothing that could be known
            except UserError as error:
                assert str(folder / name) in str(error) or "dataset.size" in str(error)
    saved(tmp_path / "deep" / "a.png", RNG.integers(0, 2**16, (4, 6), dtype=np.uint16))
    saved(tmp_path / "deep" / "b.png", grey())
    refused(ImageFolder(folder=str(tmp_path / "deep")).load, "a.png' has more than 8 bits")


# Through the verbs ---------------------------------------------------------------------------------------------------


def test_images_train_and_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of images goes through both verbs; the exact field of it gives its images back, mirrored ones among them."""
    monkeypatch.chdir(tmp_path)
    values = np.stack([grey(3, 2) for _ in range(4)])
    for i, image in enumerate(values):
        saved(tmp_path / "mine" / f"{i}.png", image)
    words = ["dataset=image_folder", "dataset.folder=mine", "dataset.flip=true"]
    quick = ["steps=20", "batch_size=16", "net.widths=[16]", "hydra.run.dir=run"]
    assert main(["train", *words, *quick]) == 0
    assert main(["sample", "run=run", "n=30", "steps=4", "plots=false", "hydra.run.dir=learnt"]) == 0
    x = np.load("learnt/samples.npz")["x"]
    assert x.shape == (30, 3, 2, 1) and x.dtype == np.float32
    assert json.loads(Path("learnt/summary.json").read_text())["metrics"]["w2"]["points"] == 30
    assert (
        main(["sample", "run=oracle", *words, "path=ot", "n=200", "steps=40", "plots=false", "hydra.run.dir=exact"])
        == 0
    )
    x = np.load("exact/samples.npz")["x"][..., 0]
    every = np.concatenate([values, values[:, :, ::-1]]) / 127.5 - 1
    distance = np.abs(x[:, None] - every).max(axis=(2, 3))
    assert distance.min(axis=1).max() < 0.01 and len(set(distance.argmin(axis=1))) == 8


def test_a_distance_of_large_images_takes_fewer_of_them(tmp_path: Path) -> None:
    """No more than 2^23 numbers of true points, at least one pair; in the plane as many as ever."""
    assert pairs(10_000, 2) == (8, 512) and pairs(100, 2) == (8, 100) and pairs(10_000, 784) == (8, 512)
    for dimension in (3072, 12_288, 200_000, 10**9):
        sets, points = pairs(10_000, dimension)
        assert sets >= 1 and points >= 1 and (2 * sets * points * dimension <= 2**23 or sets == points == 1)
    data = images(tmp_path, RNG.integers(0, 256, (50, 128, 128, 3), dtype=np.uint8))
    x = draw_many(data, data.load(), jax.random.key(1), 400)
    found = W2().measure(Subject(data, n=400, x=x), jax.random.key(0)).figures["w2"]
    assert found.points == 85 and found.reference is not None
    assert found.value == pytest.approx(found.reference.value, rel=0.1)
