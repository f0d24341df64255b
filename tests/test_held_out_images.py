"""Images of a folder that are kept from training: a share of them, or those of another folder."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from PIL import Image

from diffsde.build import check
from diffsde.cli.main import main
from diffsde.datasets import ArrayFile, Examples
from diffsde.datasets.folder import ImageFolder
from diffsde.errors import UserError
from diffsde.evaluation import densities

CLASSES = {"1": 5, "2": 4, "10": 6}  # images of each, in the order of the classes


def save(name: str, level: int, shape: tuple[int, ...] = (4, 3)) -> None:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(shape, level, np.uint8)).save(name)


def make(folder: str, first: int, shape: tuple[int, ...] = (4, 3)) -> None:
    """Every image of a grey of its own, from which its class can be told: 50 apart, and `first` more."""
    for label, (name, count) in enumerate(CLASSES.items()):
        for i in range(count):
            save(f"{folder}/{name}/{i}.png", 50 * label + first + i, shape)


def levels(found: Examples) -> np.ndarray:
    """The grey of each image; its label must be the one that its grey tells."""
    x = np.asarray(found.x)
    assert x.dtype == np.uint8 and np.all(x == x[:, :1, :1])
    if found.y is not None:
        np.testing.assert_array_equal(found.y, x[:, 0, 0, 0] // 50)
    return x[:, 0, 0, 0]


@pytest.mark.parametrize("stream", [False, True])
def test_a_share_is_kept_from_training(here: Path, stream: bool) -> None:
    """Both parts make up the whole and have nothing in common; they are those of the same images in an array, each time."""
    make("all", 0)
    whole = ImageFolder(folder="all").load()
    data = ImageFolder(folder="all", test="0.2", stream=stream)
    train, test = levels(data.load()), levels(data.held_out())
    assert len(train) == 12 and len(test) == 3 and data.has_test and not ImageFolder(folder="all").has_test
    np.testing.assert_array_equal(np.sort([*train, *test]), np.sort(levels(whole)))
    np.savez("all.npz", x=whole.x[..., 0], y=whole.y)
    array = ArrayFile(file="all.npz", test="0.2")
    np.testing.assert_array_equal(test, levels(array.held_out()))
    np.testing.assert_array_equal(train, levels(array.load()))
    source = data.source()
    assert source.size == 12 and data.about(data.load())["points"] == 12
    np.testing.assert_array_equal(levels(source.read(np.array([7, 0, 11]))), train[[7, 0, 11]])


@pytest.mark.parametrize("stream", [False, True])
def test_classes_are_counted_over_all_images(here: Path, stream: bool) -> None:
    """Also one whose only image is kept from training, of which it is said."""
    count = next(n for n in range(6, 50) if n - 1 in np.random.default_rng(0).permutation(n)[: n // 2] and n % 2 == 0)
    for i in range(count - 1):
        save(f"all/a/{i:02}.png", i)
    save("all/z/only.png", 50)
    data = ImageFolder(folder="all", test="0.5", stream=stream)
    found = data.load()
    assert found.y is not None and set(np.asarray(found.y)) == {0} and 50 in levels(data.held_out())
    assert data.classes(found) == 2 and data.about(found)["class_names"] == ["a", "z"]
    assert data.notes() == ("every image of the class z is kept from training",)
    assert dataclasses.replace(data, test="").notes() == ()


def test_colour_among_them_is_colour_in_both_parts(here: Path) -> None:
    """Wherever the only image in colour is."""
    for i in range(10):
        save(f"all/{i}.png", i, (4, 3, 3) if i == 4 else (4, 3))
    data = ImageFolder(folder="all", test="0.3")
    assert data.load().x.shape == (7, 4, 3, 3) and data.held_out().x.shape == (3, 4, 3, 3)
    assert data.held_out().y is None


@pytest.mark.parametrize("stream", [False, True])
def test_another_folder_is_kept_from_training(here: Path, stream: bool) -> None:
    """Class k there is class k here, by name; files that are no images are counted there too."""
    make("train", 0)
    make("test", 20)
    Path("test/10/notes.txt").write_text("no image")
    data = ImageFolder(folder="train", test="test", stream=stream)
    np.testing.assert_array_equal(np.sort(levels(data.load())), np.sort(levels(ImageFolder(folder="train").load())))
    mine = [20, 21, 22, 23, 24, 70, 71, 72, 73, 120, 121, 122, 123, 124, 125]
    np.testing.assert_array_equal(levels(data.held_out()), mine)
    assert data.classes(data.load()) == 3
    assert data.notes() == ("in 'test' 1 file was left out, of other kinds (.txt: 1)",)
    first = data.held_out()
    save("test/1/0.png", 30)  # what is kept of a file goes when it changes
    assert first.x[0, 0, 0, 0] == 20 and data.held_out().x[0, 0, 0, 0] == 30


def unknown() -> None:
    save("test/11/0.png", 3)


def renamed() -> None:
    Path("test/2").rename("test/two")


def missing() -> None:
    shutil.rmtree("test/2")


def flat() -> None:
    shutil.rmtree("test")
    for i in range(2):
        save(f"test/{i}.png", i)


def larger() -> None:
    save("test/2/1.png", 70, (4, 5))


def coloured() -> None:
    save("test/2/1.png", 70, (4, 3, 3))


def train_coloured() -> None:
    save("train/2/1.png", 50, (4, 3, 3))


def linked() -> None:
    Path("test/2/link.png").symlink_to(Path("train/2/1.png").absolute())


def damaged() -> None:
    Path("test/2/1.png").write_bytes(Path("test/2/1.png").read_bytes()[:45])


def damaged_inside() -> None:
    save("test/2/9.jpg", 70)
    whole = Path("test/2/9.jpg").read_bytes()
    Path("test/2/9.jpg").write_bytes(whole[: whole.index(b"\xff\xda") + 10])
    with Image.open("test/2/9.jpg") as image:
        assert image.size == (3, 4), "its header is as it was"


def one_image() -> None:
    shutil.rmtree("test")
    save("test/1/0.png", 1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (unknown, ["'test' has a class '11', unlike 'train'", "the same names"]),
        (renamed, ["'test' has a class 'two', unlike 'train'"]),
        (missing, ["'test' has no class '2', unlike 'train'"]),
        (flat, ["'test' has no class '1', unlike 'train'"]),
        (larger, ["'test/2/1.png' is 5 x 4, but 'train/1/0.png' is 3 x 4", "dataset.size="]),
        (coloured, ["the images of 'train' are all grey, and 'test/2/1.png' is in colour", "both in colour"]),
        (train_coloured, ["the images of 'test' are all grey, and 'train/2/1.png' is in colour", "both in colour"]),
        (linked, ["'test/2/link.png' is an image of 'train' too"]),
        (damaged, ["'test/2/1.png' cannot be read"]),
        (damaged_inside, ["'test/2/9.jpg' cannot be read"]),
        (one_image, ["'test' must hold at least 2 images"]),
        (lambda: shutil.rmtree("test"), ["'test' is not a folder", "or the share of them"]),
    ],
)
def test_a_folder_that_does_not_fit_is_refused(here: Path, change: Callable[[], object], words: list[str]) -> None:
    """In a line that begins with the knob, before anything is trained."""
    make("train", 0)
    make("test", 20)
    data = ImageFolder(folder="train", test="test")
    data.load()
    change()
    for attempt in (data.load, data.held_out):
        with pytest.raises(UserError) as refusal:
            attempt()
        said = str(refusal.value)
        assert said.startswith("dataset.test: ") and "\n" not in said
        for word in words:
            assert word in said


def test_what_the_refusals_advise_is_accepted(here: Path) -> None:
    """size= for other sizes, and both in colour."""
    make("train", 0, (4, 3, 3))
    make("test", 20, (4, 5, 3))
    data = ImageFolder(folder="train", test="test", size=4)
    assert data.load().x.shape == data.held_out().x.shape == (15, 4, 4, 3)


def test_shares_that_cannot_be_are_refused(here: Path) -> None:
    """Fewer than 2 on either side; the same folder for both; none at all."""
    make("all", 0)
    for test, word in (
        ("0.05", "0.05 of 15 images are 1, and 14 are left to train on; there must be 2 of each at least"),
        ("0.95", "0.95 of 15 images are 14, and 1 are left"),
        ("all", "'all/1/0.png' is an image of 'all' too"),
    ):
        with pytest.raises(UserError, match=word) as refusal:
            ImageFolder(folder="all", test=test).load()
        assert str(refusal.value).startswith("dataset.test: ")
    assert len(ImageFolder(folder="all", test="0.13").held_out().x) == 2
    assert len(ImageFolder(folder="all", test="0.87").load().x) == 2
    for share in ("0", "1", "-0.1", "nan", "3"):
        with pytest.raises(UserError, match=f"test is '?{share}'?; it must be .*, or a file or a folder"):
            check(ImageFolder(folder="all", test=share))
    with pytest.raises(UserError, match=r"no test split; say dataset\.test=0\.1"):
        ImageFolder(folder="all").held_out()


def test_training_and_likelihood_are_told_of_them(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Training logs their loss, and the likelihood is of them and of no others; bad words leave no run behind."""
    make("all", 0)
    words = ["dataset=image_folder", "dataset.folder=all", "dataset.test=0.2", "dataset.dequantise=true"]
    quick = ["steps=20", "log_every=10", "batch_size=16", "net.widths=[16]"]
    assert main(["train", *words, *quick, "hydra.run.dir=run"]) == 0
    lines = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    summary: dict[str, Any] = json.loads(Path("run/summary.json").read_text())
    assert len(lines) == 2 and all(line["validation_loss"] > 0 for line in lines)
    assert summary["validation_loss"]["value"] == lines[-1]["validation_loss"]
    assert summary["data"]["points"] == 12
    points = densities.test_points(ImageFolder(folder="all", test="0.2"), None, None, jax.random.key(0))
    kept = levels(ImageFolder(folder="all", test="0.2").held_out())
    np.testing.assert_array_equal(np.sort(np.asarray(points.x)[:, 0, 0, 0]), np.sort(kept))
    likely = ["evaluate", "run=run", "metrics=[likelihood]", "n_test=4", "hydra.run.dir=likely"]
    assert main(likely) == 2 and "there are 3 test points; take n_test=3" in capsys.readouterr().err
    assert main(["train", *words[:2], *quick, "dataset.test=0.01", "hydra.run.dir=none"]) == 2
    assert "dataset.test: 0.01 of 15 images are 0" in capsys.readouterr().err and not Path("none").exists()
