"""Files that strangers made: each reader takes what is sound and refuses the rest in one line, runs nothing of it, and takes no memory for it."""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import shutil
import struct
import subprocess
import sys
import time
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from diffsde import checkpoints
from diffsde.array_archives import map_npy, names_in, read_npy, read_npz
from diffsde.cli.completion import SCRIPT, completions
from diffsde.cli.job import VERBS, config_folder
from diffsde.cli.main import composed, main
from diffsde.cli.rerun import again, chosen_run
from diffsde.cli.sweeps import unfinished_sweep
from diffsde.datasets.idx import IdxFile, read_idx
from diffsde.datasets.image_files import PIXELS, opened
from diffsde.datasets.mnist import DIGITS, FASHION
from diffsde.datasets.tables import read_table
from diffsde.errors import AND, Unreadable, UserError
from diffsde.expressions import evaluate_expression
from diffsde.metrics.figures import KINDS
from diffsde.report.comparison import compare
from diffsde.report.keys import as_text
from diffsde.report.page_data import pictures_of
from diffsde.runs import files, folder, formats, locks, shapes
from diffsde.runs.drawn_arrays import read_drawn, read_log_densities, read_trajectory
from diffsde.runs.record import read_record
from diffsde.runs.records import every
from diffsde.runs.restore import restore
from diffsde.runs.results import judged
from diffsde.runs.sealed_arrays import Damaged, read_sealed, write_sealed
from diffsde.runs.shapes import fault

KEPT = Path(__file__).parent / "data" / "run_folders"  # what train and sample wrote
TRAINED = "outputs/train/2026-11-27/00-10-10-584341"
DRAWN = "outputs/sample/2026-11-27/00-10-38-481445"
POINTS = np.arange(12.0).reshape(6, 2)
ESCAPES = "\x1b]0;taken\x07\x1b[2J\r\n\u202e"
FUZZED = settings(
    max_examples=60, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

# Values that take another's place in a file of JSON; HUGE is written as a number of 400 digits.
HUGE = "@HUGE@"
SWAPPED = [
    *(None, True, 0, -1, 1e308, 2**63, HUGE, "", "x", ESCAPES, "A" * 200_000, "../../x", "$(touch taken)", "\ud800"),
    *([], {}, [[]], [None], [1], ["a"], {"a": 1}, {"name": []}, {"name": "x"}),
]


class Taken:
    """What a pickle runs when it is loaded."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("taken",)


def npy(values: Any = POINTS) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, values)
    return file.getvalue()


def headed(shape: Any, dtype: str = "<f8", version: int = 1, rest: bytes = b"\0" * 64) -> bytes:
    """A .npy whose header says what it likes."""
    text = repr({"descr": dtype, "fortran_order": False, "shape": shape}).encode() + b"\n"
    size = struct.pack("<H", len(text)) if version == 1 else struct.pack("<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + size + text + rest


def npz(members: dict[str, bytes], how: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", how) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def bomb() -> bytes:
    """A .npz of 100 kB whose list of members says 72 TB of one of them."""
    content = bytearray(npz({"x.npy": headed((9 * 10**12,), rest=b"\0" * 10**5)}))
    at = content.index(b"PK\x01\x02")
    content[at + 24 : at + 28] = struct.pack("<I", 0xFFFFFFFE)
    return bytes(content)


OBJECTS = np.array([Taken()], dtype=object)
HOSTILE: dict[str, tuple[str, bytes, str]] = {
    "objects": ("npy", npy(OBJECTS), "Python objects"),
    "a pickle": ("npy", pickle.dumps(Taken()), "not a .npy file, by its first bytes"),
    "72 TiB": ("npy", headed((9 * 2**40,)), "cut short"),
    "400 digits": ("npy", headed((10**400,)), "cut short"),
    "less than none": ("npy", headed((-1, 2)), "says the shape"),
    "many axes": ("npy", headed((1,) * 40), "says the shape"),
    "a call for a dtype": ("npy", headed((1,), "__import__('os').mkdir('taken')"), "descr"),
    "records": ("npy", npy(np.zeros(2, [("a", "f8")])), "not numbers"),
    "long texts": ("npy", npy(np.array(["a" * 100])), "not numbers"),
    "version 3": ("npy", headed((1,), version=3), "version 3.0"),
    "nothing": ("npy", b"", "EOF"),
    "objects inside": ("npz", npz({"x.npy": npy(OBJECTS)}), "Python objects"),
    "a pickle inside": ("npz", npz({"x.npy": pickle.dumps(Taken())}), "not a .npy file, by its first bytes"),
    "72 TiB inside": ("npz", npz({"x.npy": headed((9 * 2**40,))}), "cut short"),
    "a bomb": ("npz", bomb(), "list of members is wrong"),
    "lzma": ("npz", npz({"x.npy": npy()}, zipfile.ZIP_LZMA), "compressed in another way"),
    "many members": ("npz", npz({f"{i}.npy": b"" for i in range(1001)}, zipfile.ZIP_STORED), "1,001 arrays"),
    "more than it says": ("npz", npz({"x.npy": npy() + b"more"}), "more in it"),
    "no archive": ("npz", b"PK\x03\x04" + b"\0" * 50, "zip file"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_arrays_of_strangers_are_refused_before_memory_is_taken(name: str, here: Path) -> None:
    ending, content, said = HOSTILE[name]
    file = here / f"x.{ending}"
    file.write_bytes(content)
    tracemalloc.start()
    for read in (read_npy, map_npy) if ending == "npy" else (read_npz,):
        with pytest.raises(Unreadable, match=said):
            read(file)
    assert tracemalloc.get_traced_memory()[1] < 30 * 2**20
    tracemalloc.stop()
    assert os.listdir(here) == [file.name]


def test_a_list_of_members_is_bounded(here: Path) -> None:
    """It is read whole before it can be counted, and may be the whole of a large file."""
    members = {f"{i:0>60000}.npy": b"" for i in range(80)}
    (here / "x.npz").write_bytes(npz(members, zipfile.ZIP_STORED))
    for read in (read_npz, names_in):
        with pytest.raises(Unreadable, match="its list of members has 5 MB"):
            read(here / "x.npz")


def test_names_in_an_archive_are_names_alone(here: Path) -> None:
    """`..` leads nowhere: nothing is unpacked."""
    place = here / "inner"
    place.mkdir()
    (place / "x.npz").write_bytes(npz({"../../x.npy": npy(), "/tmp/y.npy": npy()}))
    assert set(read_npz(place / "x.npz")) == {"../../x", "/tmp/y"} and os.listdir(here) == ["inner"]


@pytest.mark.parametrize("kind", ["pipe", "device", "folder", "link to a device"])
def test_what_is_no_regular_file_is_not_read(kind: str, here: Path) -> None:
    """A pipe would be waited for, a device never ends."""
    file = here / "x.npy"
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "folder":
        file.mkdir()
    elif kind == "device":
        file = Path("/dev/zero")
    else:
        file.symlink_to("/dev/zero")
    for read in (read_npy, read_npz, names_in):
        with pytest.raises(Unreadable, match="no regular file"):
            read(file)
    with pytest.raises(Unreadable, match="no regular file"):
        opened(file, np.asarray)
    with pytest.raises(UserError, match="no regular file"):
        read_table(file)
    with pytest.raises(Unreadable, match="no file"):
        files.parsed(file)


def test_what_is_taken_is_counted_and_mistakes_of_ours_stay_tracebacks(here: Path) -> None:
    """Of an archive of more arrays than are read at once, one; and an error of the one who chooses, or looks, is his own."""
    (here / "many.npz").write_bytes(npz({f"{i}.npy": npy() for i in range(1001)}, zipfile.ZIP_STORED))
    assert list(read_npz(here / "many.npz", lambda names: names[7:8])) == ["7"]
    picture(here / "x.png")

    def mistaken(_: object) -> list[str]:
        raise ValueError("ours")

    with pytest.raises(ValueError, match="ours"):
        read_npz(here / "many.npz", mistaken)
    with pytest.raises(ValueError, match="ours"):
        opened(here / "x.png", mistaken)
    assert opened(here / "x.png", np.asarray).shape == (8, 8, 3) and opened(here / "x.png", np.asarray, "L").shape == (
        8,
        8,
    )


def test_what_numpy_writes_is_read(here: Path) -> None:
    np.savez(
        here / "x.npz", x=POINTS, y=np.array([0, 1]), text=np.array("ada"), none=np.zeros((0, 2)), c=np.ones(2) * 1j
    )
    np.savez_compressed(here / "packed.npz", x=np.zeros((300, 1000)))
    np.save(here / "x.npy", np.asfortranarray(POINTS))
    assert names_in(here / "x.npz") == ["x", "y", "text", "none", "c"]
    found = read_npz(here / "x.npz", texts=True)
    assert str(found["text"]) == "ada" and found["none"].shape == (0, 2) and found["c"].dtype == complex
    np.testing.assert_array_equal(found["x"], POINTS)
    np.testing.assert_array_equal(read_npz(here / "packed.npz")["x"], 0)
    for read in (read_npy, map_npy):
        np.testing.assert_array_equal(read(here / "x.npy"), POINTS)


def bent(content: bytes, seed: int) -> bytes:
    """A file with some bytes changed, left out, put in, or said twice."""
    source = random.Random(seed)
    changed, place = bytearray(content), source.randrange(len(content))
    match source.randrange(4):
        case 0:
            for _ in range(source.choice([1, 1, 4, 30])):
                changed[source.randrange(len(changed))] = source.randrange(256)
        case 1:
            del changed[place:]
        case 2:
            changed[place:place] = source.randbytes(source.choice([1, 8, 100]))
        case _:
            del changed[place : place + source.choice([1, 8, 100])]
    return bytes(changed)


def written(save: Callable[[Path], object], name: str) -> Callable[[Path], bytes]:
    def content(place: Path) -> bytes:
        save(place / name)
        return (place / name).read_bytes()

    return content


def picture(path: Path) -> None:
    Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)).save(path)


IDX = b"\0\0\x08\x01" + struct.pack(">I", 4) + b"abcd"
# Of each reader: the name of its file, what makes a sound one, what reads it, and what may be raised instead.
READERS: dict[str, tuple[str, Callable[[Path], bytes], Callable[[Path], Any], type[Exception]]] = {
    "npy": ("x.npy", lambda place: npy(), read_npy, Unreadable),
    "npz": ("x.npz", written(lambda path: np.savez(path, x=POINTS, y=np.ones(3)), "x.npz"), read_npz, Unreadable),
    "packed": ("x.npz", written(lambda path: np.savez_compressed(path, x=POINTS), "x.npz"), read_npz, Unreadable),
    "names": ("x.npz", written(lambda path: np.savez(path, x=POINTS), "x.npz"), names_in, Unreadable),
    "sealed": ("x.npz", written(lambda path: write_sealed(path, {"y": POINTS}), "x.npz"), read_sealed, Damaged),
    "png": (
        "x.png",
        written(picture, "x.png"),
        lambda path: opened(path, np.asarray, "L"),
        Unreadable,
    ),
    "jpeg": (
        "x.jpg",
        written(picture, "x.jpg"),
        lambda path: opened(path, np.asarray, "L"),
        Unreadable,
    ),
    "csv": ("x.csv", lambda place: b'a,b\n1,2.5\n-3,4e5\n"5",6\n7,8\n', read_table, UserError),
    "tsv": ("x.tsv", lambda place: '"a";"b"\n1,5;2\n3;"4"\n'.encode("utf-16"), read_table, UserError),
    "idx": ("x", lambda place: IDX, lambda path: read_idx(path, IdxFile("x", (4,), "0"), {}), ValueError),
    "samples": (
        "samples.npz",
        lambda place: (KEPT / DRAWN.removeprefix("outputs/") / "samples.npz").read_bytes(),
        lambda path: read_drawn(path.parent),
        UserError,
    ),
    "trajectory": (
        "trajectory.npz",
        lambda place: (KEPT / DRAWN.removeprefix("outputs/") / "trajectory.npz").read_bytes(),
        lambda path: read_trajectory(path.parent),
        UserError,
    ),
    "likelihood": (
        "likelihood.npz",
        written(lambda path: np.savez(path, log_p=np.ones(6), x=POINTS), "likelihood.npz"),
        lambda path: read_log_densities(path.parent),
        UserError,
    ),
    "summary": (
        "summary.json",
        lambda place: (KEPT / DRAWN.removeprefix("outputs/") / "summary.json").read_bytes(),
        lambda path: folder.read_summary(path.parent),
        UserError,
    ),
    "config": (
        "config.json",
        lambda place: (KEPT / TRAINED.removeprefix("outputs/") / "config.json").read_bytes(),
        lambda path: folder.read_config(path.parent),
        UserError,
    ),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", READERS)
@FUZZED
@given(seed=st.integers(0, 2**32))
def test_readers_take_any_bytes(name: str, seed: int, tmp_path: Path) -> None:
    """What is read of a file that was bent is sound, or it is refused, in a line, and without a warning of a library."""
    called, make, read, refusal = READERS[name]
    file = tmp_path / called
    file.write_bytes(bent(make(tmp_path), seed))
    try:
        read(file)
    except refusal as error:
        assert str(error).strip() and len(str(error)) < 2000


@pytest.mark.parametrize("name", READERS)
def test_readers_read_what_is_sound(name: str, tmp_path: Path) -> None:
    called, make, read, _ = READERS[name]
    (tmp_path / called).write_bytes(make(tmp_path))
    if name == "idx":
        with pytest.raises(ValueError, match="sha256"):  # sound, and none that is known
            read(tmp_path / called)
    else:
        assert read(tmp_path / called) is not None


def test_pictures_are_bounded_and_of_two_kinds(here: Path) -> None:
    """By the header, before they are decoded; EPS, for one, would have Ghostscript run what is in it."""
    content = bytearray(written(picture, "x.png")(here))
    content[16:24] = struct.pack(">II", 9000, 9000)
    content[29:33] = struct.pack(">I", __import__("zlib").crc32(content[12:29]))
    (here / "x.png").write_bytes(content)
    with pytest.raises(Unreadable, match=f"9000 x 9000 pixels large; at most {PIXELS // 10**6} million"):
        opened(here / "x.png", np.asarray)
    (here / "x.png").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n(taken) (w) file\n%%EOF\n"
    )
    with pytest.raises(Unreadable, match="cannot identify"):
        opened(here / "x.png", np.asarray)


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where in a value of JSON its parts are, itself included."""
    yield place
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*place, key))


def swapped(value: Any, place: tuple[Any, ...], new: Any) -> Any:
    """A value of JSON with another part at a place."""
    if not place:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[place[0]] = swapped(value[place[0]], place[1:], new)
    return copy


def bent_json(text: str, seed: int) -> str:
    """JSON with one or a few of its parts swapped by others; each time in six, with its bytes bent."""
    source = random.Random(seed)
    if source.random() < 1 / 6:
        return bent(text.encode(), seed).decode("latin-1")
    value = json.loads(text)
    for _ in range(source.choice([1, 1, 1, 3])):
        value = swapped(value, source.choice(list(places(value))), source.choice(SWAPPED))
    return json.dumps(value).replace(f'"{HUGE}"', "9" * 400)


@pytest.fixture
def kept(here: Path) -> Path:
    """The folders of a training run and of samples of it, in outputs/."""
    shutil.copytree(KEPT, here / "outputs")
    (here / TRAINED / "checkpoints").mkdir()
    return here


def said(words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of a command, which must be in order: one line of refusal, nothing raw, nothing long."""
    capsys.readouterr()
    status = main(words)
    out, err = capsys.readouterr()
    refusals = [line for line in err.splitlines() if not line.startswith("warning: ")]
    assert status in (0, 2) and len(refusals) == (1 if status else 0), err
    assert all(line.startswith("diffsde: ") for line in refusals)
    shown = (out if "--json" not in words else "") + err
    assert not set(shown) & set("\x1b\x07\r\u202e") and max(map(len, shown.splitlines()), default=0) < 3000
    return status, out, err


@settings(max_examples=80, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_commands_take_any_json(seed: int, kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of the files of other folders: what is of use is used, and the rest is left out with a warning."""
    source = random.Random(seed)
    file = source.choice(sorted(kept.glob("outputs/**/*.json")))
    text = file.read_text()
    try:
        file.write_text(bent_json(text, seed))
        for words in (["runs"], ["runs", "--json"], ["runs", "path=ot", "seed=0"]):
            said(words, capsys)
        assert "taken" not in os.listdir(kept)
    finally:
        file.write_text(text)


STORED = "outputs/train/2026-11-26/00-00-00-000000"  # a run with a checkpoint
JOBS = {"train": (TRAINED, STORED), "sample": (DRAWN,)}


def readers_of_folders(configs: dict[str, dict[str, Any]]) -> dict[str, Callable[[], object]]:
    """What commands read of folders that others wrote, without what they compute: of train, whose config finds a folder to go on in,
    run=latest and run= of sample, samples= of evaluate, rerun, compare and the tab key.
    """
    from diffsde.verbs import evaluate

    def repeated() -> None:
        for place in (TRAINED, STORED, DRAWN):
            again(chosen_run([place]))

    return {
        "claim": lambda: [folder.claim(Path(place), verb, configs[verb]) for verb in JOBS for place in JOBS[verb]],
        "unfinished": lambda: [folder.unfinished(verb, config) for verb, config in configs.items()],
        "sweep": lambda: unfinished_sweep("sample", []),
        "latest": folder.latest,
        "run": lambda: restore(Path(STORED)),
        "summary": lambda: [judged(folder.read_summary(Path(place))) for places in JOBS.values() for place in places],
        "samples": lambda: evaluate.VERB.resolve(composed("evaluate", [f"samples={DRAWN}"])),
        "rerun": repeated,
        "compare": lambda: compare([*every()]),
        "tab": lambda: [
            completions(config_folder(), VERBS, (), f"diffsde {words}") for words in ("compare ", "sample run=")
        ],
    }


@settings(
    max_examples=100,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(seed=st.integers(0, 2**32))
def test_what_reads_other_folders_takes_any_json(seed: int, kept: Path) -> None:
    """Or refuses it in a line."""
    source = random.Random(seed)
    if not (kept / STORED).exists():
        shutil.copytree(KEPT.parent / "first_release" / "format-4", kept / STORED)
    whole = {
        verb: formats.in_format_of_now(json.loads((kept / JOBS[verb][0] / "config.json").read_text())) for verb in JOBS
    }
    readers = readers_of_folders({verb: content["config"] for verb, content in whole.items()})
    place = source.choice([place for places in JOBS.values() for place in places])
    file = source.choice(
        [kept / place / "config.json", kept / place / "summary.json", *kept.glob("outputs/**/sweep.json")]
    )
    text = file.read_text()
    try:
        file.write_text(bent_json(text, seed))
        for name in source.sample(sorted(readers), 3):
            try:
                readers[name]()
            except UserError as error:
                assert str(error).strip() and len(str(error)) < 3000, name
        assert "taken" not in os.listdir(kept)
    finally:
        file.write_text(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"format": ' + "9" * 400 + "}", "'format' has more digits"),
        ('{"format": 4, "verb": []}', "'verb' is a list, not text"),
        ('{"format": 4, "config": {"path": {"name": []}}}', "'config.path.name' is a list, not text"),
        ('{"format": 4, "config": {"path": ["ot"]}}', "'config.path' is a list, not an object or null"),
        ('{"format": 4, "config": {"path": {}}}', "'config.path' has no 'name'"),
        ('{"format": NaN}', "NaN is no number"),
        ('{"format": 1e999}', "1e999 is no number"),
        ('{"verb": "train", "verb": "sample"}', "'verb' stands twice"),
        ("[" * 100_000, "too many brackets"),
        ('{"a":' + "[" * 200 + "]" * 200 + "}", "more than 64 brackets"),
        ('{"provenance": {"words": [1]}}', "'provenance.words[0]' is 1, not text"),
        (json.dumps({"format": 4, "config": {"truth": "A" * 10**6}}), "'config.truth' has 1,000,000 letters"),
        (json.dumps({"format": 4, "config": {"A" * 10**6: 1}}), "'config' has a key of 1,000,000 letters"),
        ('"' + "A" * 10**6 + '"', "not an object"),
        ("{" + " " * 17 * 2**20 + "}", "it has 17 MB"),
    ],
)
def test_a_config_says_what_is_wrong_with_it(
    text: str, why: str, kept: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both of a folder that is looked through, where it is left out, and of one that was named."""
    (kept / TRAINED / "config.json").write_text(text)
    assert why in said(["runs"], capsys)[2]
    status, _, err = said(["sample", f"run={TRAINED}"], capsys)
    assert status == 2 and why in err
    (kept / TRAINED / "config.json").unlink()


def test_a_key_that_stands_twice_is_found_by_one_look_at_each() -> None:
    began = time.process_time()
    with pytest.raises(ValueError, match="'19999' stands twice"):
        files.decoded("{" + ",".join(f'"{key}": 1' for key in [*range(20_000), 19_999]) + "}")
    assert time.process_time() - began < 3  # 0.02 s; looked for among all before it, 18 s


def test_shapes_agree_with_what_is_written(kept: Path) -> None:
    for file in kept.glob("outputs/**/*.json"):
        shape = {"config.json": shapes.CONFIG, "summary.json": shapes.SUMMARY, "sweep.json": shapes.SWEEP}[file.name]
        assert fault(json.loads(file.read_text()), shape) is None
    assert set(shapes.KINDS) == {"value", *KINDS}


def test_nothing_raw_or_long_is_printed(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of the words of a command, of a folder's name, of a config, and of an error that a folder keeps."""
    loud = kept / "outputs/train/2026-11-28" / "red\x1b[31m\x07"
    shutil.copytree(kept / TRAINED, loud)
    config = json.loads((loud / "config.json").read_text())
    config["provenance"]["words"] = [f"path={ESCAPES}", "net=" + "A" * 10**6]
    config["config"]["name"] = ESCAPES
    (loud / "config.json").write_text(json.dumps(config))
    (loud / "summary.json").unlink()
    (loud / "error.json").write_text(json.dumps({"error": ESCAPES + "A" * 10**7}))
    status, out, _ = said(["runs"], capsys)
    assert status == 0 and r"\x1b]0;taken\x07" in out and "letters) ..." in out
    for words in (
        ["sample", f"run={ESCAPES}"],
        ["sample", f"sampler={'A' * 5000}"],
        [ESCAPES],
        ["runs", f"path={ESCAPES}"],
    ):
        assert said(words, capsys)[0] == 2


def test_long_choices_are_cut_and_stay_apart() -> None:
    """In tables and pictures, whose drawing would take minutes."""
    texts = [as_text("A" * 9000 + end) for end in "ab"]
    assert texts[0] != texts[1] and max(map(len, texts)) < 220
    assert as_text("A" * 199) == "A" * 199 and as_text("\x1b[2J") == r"\x1b[2J"


def test_checkpoints_are_bounded_and_of_a_run() -> None:
    """By what their metadata says, before any is read; a sound one of another tree is no run's."""
    large = {"tree": {"a": jax.ShapeDtypeStruct((10, 24 * 10**12), np.float32)}}
    with pytest.raises(checkpoints.Damaged, match=r"it says 873 TiB of numbers, and its files have 1\.5 KiB"):
        checkpoints.check_size(large, 1536)
    with pytest.raises(
        UserError, match=r"a checkpoint of 873 TiB of numbers: 1.7. PiB of memory or more, and there are"
    ):
        checkpoints.check_size(large, 2**50)  # a sound one of another machine: none before it is of more use
    checkpoints.check_size({"a": jax.ShapeDtypeStruct((2**24,), np.float32)}, 1536)
    moments = {"mean": np.zeros(2), "std": np.ones(())}
    whole = {"moments": moments, "state": {"params": {}, "ema": {}}, "classes": np.asarray(0)}
    assert checkpoints.not_of_a_run(whole) is None
    for part in (
        {"moments": 1},
        {"moments": {"mean": 1}},
        {"moments": moments | {"other": 1}},
        {"moments": moments | {"std": np.ones(3)}},
        {"moments": moments | {"mean": np.full(2, np.nan)}},
        {"state": np.zeros(2)},
        {"state": {"params": {}}},
        {"classes": np.zeros(2)},
    ):
        assert checkpoints.not_of_a_run(whole | part), part
    assert checkpoints.not_of_a_run(np.zeros(2)) and checkpoints.not_of_a_run({})


def test_what_is_wrong_in_the_config_of_a_run_names_its_file(kept: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Not a word that was never typed."""
    file = kept / TRAINED / "config.json"
    file.write_text(file.read_text().replace('"keep": 2', '"keep": -1'))
    status, _, err = said(["sample", f"run={TRAINED}"], capsys)
    assert status == 2 and f"run: '{TRAINED}/config.json': keep is -1; it must be 1 or more" in err


def test_a_rerun_reads_no_programs_from_where_a_folder_says(kept: Path) -> None:
    """A cache of compiled programs is machine code."""
    file = kept / DRAWN / "config.json"
    file.write_text(file.read_text().replace('"cache_dir": null', '"cache_dir": "theirs"'))
    record = read_record(kept / DRAWN)
    assert record is not None and record.config["cache_dir"] == "theirs" and again(record)["cache_dir"] is None


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(30))
def test_verbs_take_run_folders_of_strangers(seed: int, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With one file bent, of a run and of samples of it: each verb does its work without it, or refuses in a line."""
    shutil.copytree(KEPT.parent / "first_release", here, dirs_exist_ok=True)
    source = random.Random(seed)
    there = [path for name in ("format-4", "samples-4") for path in (here / name).rglob("*") if path.is_file()]
    file = source.choice(sorted(path for path in there if path.stat().st_size))
    content = file.read_bytes()
    file.write_bytes(bent_json(content.decode(), seed).encode() if file.suffix == ".json" else bent(content, seed))
    few = ["n=4", "steps=2", "sampler=heun", "pictures=none"]
    for words in (
        ["sample", "run=format-4", *few],
        ["evaluate", "samples=samples-4", "metrics=[cross_entropy]"],
        ["compare", "format-4", "samples-4", "out=compared"],
        ["report", "format-4", "samples-4", "out=page"],
        ["rerun", "samples-4"],
        ["train", "run=format-4", "steps=21", "pictures=none"],
    ):
        _, _, err = said(words, capsys)
        assert "Traceback" not in err, (file, words, err)
    assert not (here / "taken").exists()


def test_lines_of_several_jobs_stay_lines(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(*_: Any) -> None:
        raise UserError(AND.join(["job 0: one", "job 1: \x1b[2Jtwo"]))

    monkeypatch.setattr("diffsde.cli.main.run_plain", refused)
    assert main(["runs"]) == 2
    assert capsys.readouterr().err == "diffsde: job 0: one\ndiffsde: job 1: \\x1b[2Jtwo\n"


@pytest.mark.parametrize("shell", ["bash"])
def test_completion_runs_nothing_of_a_name(shell: str, kept: Path) -> None:
    """Of a file, of a folder and of a run, after verbs of both kinds: what a shell would not take as it stands is not offered; nor
    does one take a name that is offered for a pattern of others.
    """
    for name in ("ev$(touch taken)", "ev`touch taken`", "ev;touch taken", "ev a", "ev" + "[^_]" * 14, "evplain.npy"):
        (kept / name).touch()
    (kept / "ev$(touch taken)d").mkdir()
    (kept / "outputs/train/2026-11-28/$(touch taken)").mkdir(parents=True)
    config = json.loads((kept / TRAINED / "config.json").read_text())
    config["config"]["name"] = "ev$(touch taken)"
    (kept / "outputs/train/2026-11-28/$(touch taken)/config.json").write_text(json.dumps(config))
    for words, offered in (
        ("train dataset=array dataset.file=ev", "dataset.file=evplain.npy"),
        ("sample run=", "run=latest"),
        ("compare ev", "evplain.npy"),
        ("study ev", "evplain.npy"),
        ("runs nothing-begins-so", ""),
    ):
        line = f"diffsde {words}"
        text = f"""diffsde() {{ '{sys.executable}' -m diffsde "$@"; }}
        {SCRIPT}
        COMP_LINE='{line}' COMP_POINT={len(line)} COMP_CWORD=1 COMP_WORDS=(diffsde '{line.split()[-1]}')
        _diffsde_complete
        printf '%s\\n' "${{COMPREPLY[@]}}"
        """
        shown = subprocess.run([shell, "-c", text], capture_output=True, text=True, check=True)
        found = shown.stdout.splitlines()
        assert not shown.stderr and "touch" not in shown.stdout and offered in found, (line, found)
        assert all(each.startswith(words.split()[-1]) for each in found if each), (line, found)
    assert not (kept / "taken").exists()


@pytest.mark.parametrize(
    "words",
    [
        "train dataset=moons steps=1 net.widths=[2] batch_size=4 hydra.run.dir=new",
        "train -m dataset=moons steps=1 seed=0,1 hydra.sweep.dir=new",
        "study train=dataset=moons train=seed=0,1 out=new",
    ],
)
@pytest.mark.parametrize("there", [True, False])
def test_nor_through_one_in_a_folder_without_a_run(
    words: str, there: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new/checkpoints").symlink_to(tmp_path / "outside")
    (tmp_path / "new/0").symlink_to(tmp_path / "outside")
    if there:
        (tmp_path / "outside").mkdir()
    monkeypatch.chdir(tmp_path)
    assert main(words.split()) == 2
    error = capsys.readouterr().err
    assert "leads out of its folder" in error and error.count("\n") == 1
    assert (tmp_path / "outside").exists() is there and len(list(tmp_path.rglob("*"))) == 3 + there


def test_nothing_is_written_through_a_link(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a run folder that is given, and then trained on; nor is its lock made where a link leads."""
    place, outside = kept / TRAINED, kept / "outside"
    config = json.loads((place / "config.json").read_text())["config"]
    assert folder.claim(place, "train", config)
    for name in ("checkpoints", "metrics.jsonl", "plots", "deep/../checkpoints"):
        own = place / Path(name).name
        shutil.rmtree(own) if own.is_dir() and not own.is_symlink() else own.unlink(missing_ok=True)
        own.symlink_to(outside)
        with pytest.raises(UserError, match="leads out of its folder"):
            folder.claim(place, "train", config)
        own.unlink()
    (place / "plots").symlink_to(place / "pictures")  # inside it, a link is the owner's affair
    assert folder.claim(place, "train", config)
    (kept / "scratch/deep/checkpoints").mkdir(parents=True)
    (place / "checkpoints").symlink_to(kept / "scratch/deep/checkpoints")
    monkeypatch.setenv("DIFFSDE_LINKS", f"{kept / 'other'}:")
    with pytest.raises(UserError, match=f"DIFFSDE_LINKS={kept}/scratch/deep/checkpoints before the command"):
        folder.claim(place, "train", config)
    monkeypatch.setenv("DIFFSDE_LINKS", f"{kept / 'other'}:{kept / 'scratch'}")  # the user's own, to another disk
    assert folder.claim(place, "train", config)
    (place / ".lock").unlink(missing_ok=True)
    (place / ".lock").symlink_to(outside)
    with pytest.raises(UserError, match=r"\.lock' cannot be written"), locks.held(place):
        pass
    assert not outside.exists()


def test_a_page_has_no_file_that_a_link_leads_to(kept: Path) -> None:
    """It would be given away with the page: a key, a private picture."""
    secret = kept / "secret.png"
    picture(secret)
    job = kept / TRAINED
    (job / "plots").mkdir()
    (job / "plots" / "linked.png").symlink_to(secret)
    (job / "plots" / "text.png").write_text("no picture")
    picture(job / "plots" / "own.png")
    found, _ = pictures_of([("job", job)], kept / "nowhere", 10**6)
    assert [each["title"] for each in found] == ["own"]
    shutil.rmtree(job / "plots")
    (job / "plots").symlink_to(kept)
    assert pictures_of([("job", job)], kept / "nowhere", 10**6)[0] == []


@pytest.mark.parametrize("text", ["t+" * 600 + "t", "(" * 300 + "t" + ")" * 300, "9" * 900, "9**9**9**9"])
def test_expressions_are_bounded(text: str) -> None:
    with pytest.raises(UserError, match=r"letters|not an expression|cannot be computed|single precision"):
        evaluate_expression(text, {"t": 0.5})


def test_downloads_are_https() -> None:
    """And of a known size and sha256: tests/test_images.py."""
    for collection in (DIGITS, FASHION):
        assert collection.mirrors and all(mirror.startswith("https://") for mirror in collection.mirrors)


def test_a_record_of_a_stranger_names_no_other_folder(kept: Path) -> None:
    """An id that a config claims is text, and no plugin that it names is loaded."""
    config = json.loads((kept / TRAINED / "config.json").read_text())
    config["plugins"] = {"antigravity": ["path=ot_own"]}
    (kept / TRAINED / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"needs path=ot_own, of a plugin; say plugins=\[antigravity\] too"):
        folder.read_config(kept / TRAINED)
    assert "antigravity" not in sys.modules and read_record(kept / TRAINED) is not None
