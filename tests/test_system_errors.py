"""Errors of the system end a command with one line and status 2, and what does not fit is refused before any memory is taken."""

from __future__ import annotations

import errno
import os
import re
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import diffsde
from diffsde import atomic_files, knobs, memory, system_errors
from diffsde.cli.main import main
from diffsde.errors import InputError, UserError
from diffsde.runs import machine

ORACLE = ["run=oracle", "dataset=gmm", "path=ot", "threads=1", "pictures=none"]
DRAW = ["sample", *ORACLE, "n=64", "steps=4", "cache=false"]


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """A context in which no file may grow beyond `size` bytes: a full disk, as the system says it, EFBIG for ENOSPC."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def refused(words: list[str], capfd: pytest.CaptureFixture[str]) -> str:
    """The one line with which a command is refused."""
    assert main(words) == 2
    lines = [line for line in capfd.readouterr().err.splitlines() if not line.startswith("warning: ")]
    assert len(lines) == 1 and lines[0].startswith("diffsde: "), lines
    return lines[0].removeprefix("diffsde: ")


@pytest.mark.parametrize("number", system_errors.REMEDIES, ids=errno.errorcode.get)
def test_an_error_of_the_system_is_a_line_with_the_file_and_what_would_be_right(number: int) -> None:
    error = OSError(number, os.strerror(number), "some/file")
    said = system_errors.line(error, ["some/file"])
    assert system_errors.line(error, ["some/other"]) == (None if number in system_errors.OF_NAMES else said)
    assert said == f"'some/file': {os.strerror(number)}; {system_errors.REMEDIES[number]}"


def test_a_library_that_memory_cannot_hold_is_a_line_on_memory() -> None:
    """As the system's loader says it, under ulimit -v; what is not there at all is another matter."""
    for text in ("libx.so: failed to map segment from shared object", "libx.so: cannot allocate memory in static TLS"):
        said = system_errors.line(ImportError(text, name="numpy"))
        assert said is not None and said.startswith(
            "memory to load numpy is not available; raise the limit (ulimit -v)"
        )
    assert system_errors.line(ImportError("No module named 'x'", name="x")) is None


def test_a_link_to_nothing_is_called_so(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (here / "points.csv").symlink_to("/nowhere/points.csv")
    file = ["dataset=array", "dataset.file=points.csv"]
    assert "is a link to '/nowhere/points.csv', where nothing is" in refused(["train", *file], capfd)
    (here / "outputs").symlink_to("/nowhere/outputs")
    assert "it is a link to nothing, '/nowhere/outputs'" in refused(DRAW, capfd)
    assert "'outputs' is a link to nothing" in refused(["runs"], capfd)


def test_a_file_for_the_folder_of_runs_is_no_lack_of_runs(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (here / "outputs").touch()
    assert "'outputs' is a file, where the folder of runs is to be" in refused(["runs"], capfd)
    assert "Not a directory; a file stands where a folder is to be" in refused(DRAW, capfd)


def test_explain_needs_no_folder(here: Path) -> None:
    """It writes nothing: neither where outputs/ cannot be made, nor into a run's folder that it is called in."""
    (here / "outputs").touch()
    (here / "config.json").write_text("{}")
    assert main(["explain", "path=ot"]) == 0
    assert sorted(path.name for path in here.iterdir()) == ["config.json", "outputs"]


def test_other_errors_are_left_as_they_are() -> None:
    """A mistake of ours stays a traceback; a closed pipe is terminal.py's."""
    for error in (
        ValueError("Out of memory"),
        KeyError("x"),
        BrokenPipeError(errno.EPIPE, "Broken pipe"),
        UserError("x"),
    ):
        assert system_errors.line(error) is None
    with pytest.raises(ZeroDivisionError), system_errors.as_user_errors():
        1 / 0  # noqa: B018


def test_a_file_that_we_alone_named_is_a_mistake_of_ours(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In every verb, and in Python, it keeps its traceback; a name that the user gave, or what is written, is a line."""

    def mistaken(*args: object) -> None:
        open("typo.json").close()

    with monkeypatch.context() as patched:
        for name in ("diffsde.verbs.explain.explain", "diffsde.verbs.runs.main", "diffsde.runs.results.write_arrays"):
            patched.setattr(name, mistaken)
        for words in (["explain"], ["runs"], DRAW, [*DRAW, "-m", "seed=0,1"]):
            with pytest.raises(FileNotFoundError, match=r"typo\.json"):
                main(words)
        with pytest.raises(FileNotFoundError, match=r"typo\.json"):
            diffsde.oracle(dataset="gmm", path="ot", threads=1).sample(n=64, steps=4, folder="out", cache=False)
    (here / "file").write_text("")
    capsys.readouterr()
    for words in ([*DRAW, "hydra.run.dir=file/x"], [*DRAW, "-m", "seed=0,1", "hydra.sweep.dir=file"]):
        assert main(words) == 2
        said = capsys.readouterr().err
        assert re.fullmatch(r"diffsde: '.*file(/x)?': .*; a file stands where a folder is to be.*\n", said), said
    with pytest.raises(InputError, match=r"'file.*; a file stands"):
        diffsde.oracle(dataset="gmm", path="ot", threads=1).sample(n=64, steps=4, folder="file/x", cache=False)


def test_tracebacks_are_shown_where_they_are_asked_for(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Above the line, of a job and of a plain verb; and in Python, of what the line was made of."""
    monkeypatch.setenv("DIFFSDE_DEBUG", "1")
    for words in (["runs", "n=many"], ["sample", *ORACLE, "n=0"]):
        assert main(words) == 2
        said = capsys.readouterr().err.splitlines()
        assert said[0] == "Traceback (most recent call last):" and said[-1].startswith("diffsde: n")
    with pytest.raises(InputError) as caught:
        diffsde.oracle(dataset="gmm", path="ot").sample(n=0)
    assert isinstance(caught.value.__cause__, UserError)


def test_memory_that_is_not_there_is_a_line_with_its_size() -> None:
    """numpy's and XLA's own errors, asked for more than an address space has."""
    with pytest.raises(UserError, match=r"memory of 64\.0 TiB for an array of shape \(1099511627776, 8\) is not available"), system_errors.as_user_errors():  # fmt: skip
        np.empty((2**40, 8))
    with pytest.raises(UserError, match=r"memory of 63 PiB is not available"), system_errors.as_user_errors():
        jnp.zeros((2**27, 2**27 - 2**21), jnp.float32).block_until_ready()


def test_the_texts_of_libraries_are_read() -> None:
    class JaxRuntimeError(RuntimeError):
        pass

    text = "Error writing 'x/y' [OS error 28: ENOSPC No space left on device]"
    assert "No space left" in (system_errors.line(JaxRuntimeError(text)) or "")
    assert "No space left" in system_errors.of_checkpoint(ValueError(text))
    assert "File too large" in system_errors.of_checkpoint(ValueError("EFBIG"))
    assert system_errors.of_checkpoint(ValueError("a mistake\nof ours")) == "a mistake"


def test_a_write_that_fails_names_the_file_and_leaves_nothing(here: Path) -> None:
    with largest_file(1000), pytest.raises(OSError, match=r"File too large: 'a\.npz'"):
        atomic_files.write_atomically(Path("a.npz"), lambda path: np.savez(path, x=np.zeros(10_000)))
    with largest_file(1000), pytest.raises(OSError, match=r"requested and .* written: is the disk full: 'a\.npy'"):
        atomic_files.write_atomically(Path("a.npy"), lambda path: np.save(path, np.zeros(10_000)))
    name = "a" * 300
    with pytest.raises(
        OSError, match=rf"File name too long: '{name}'"
    ):  # not by the name that it has until it is whole
        atomic_files.write_atomically(Path(name), lambda path: path.write_text("x"))
    assert [path.name for path in here.rglob("*") if path.is_file()] == []


def test_a_full_disk_ends_a_command_with_a_line(here: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with largest_file(500):
        assert "config.json': File too large; raise the limit on a file's size" in refused(DRAW, capfd)
    assert list(here.rglob("*.npz")) == [] and list(here.rglob("summary.json")) == []
    with largest_file(500), pytest.raises(InputError, match="File too large"):
        diffsde.oracle(dataset="gmm", path="ot", threads=1).sample(n=64, steps=4, folder="out", cache=False)
    assert main(DRAW) == 0  # once there is room


def test_a_sweeps_job_that_cannot_be_written_is_a_line(
    here: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One job alone: the sweep goes on with the next, and says which failed."""
    from diffsde.runs import results

    write, asked = results.write_arrays, iter([True, False])

    def full_once(*args: object) -> object:
        if next(asked, False):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "x.npz")
        return write(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(results, "write_arrays", full_once)
    assert main([*DRAW, "-m", "seed=0,1", "hydra.sweep.dir=sweep"]) == 2
    said = capfd.readouterr().err
    assert "'x.npz': No space left on device; make room" in said and "Traceback" not in said
    assert not Path("sweep/0/summary.json").exists() and Path("sweep/1/summary.json").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["sample", *ORACLE, "n=1e308"], "n is '?1e\\+?308'?; it must be at most 2,147,483,647"),
        (
            ["sample", *ORACLE, "steps=1e9"],
            "steps is .*; it must be at most 1,000,000; of more, single precision .*: precision=float64 takes 100,000,000",
        ),
        (["simulate", "steps=1e9", "precision=float64"], "steps is .*; it must be at most 100,000,000"),
        (["train", "steps=2147483648"], "steps is 2147483648; it must be at most 2,147,483,647"),
        (["train", "devices=100000"], "devices is 100000; it must be at most 1,024"),
        (["train", "threads=100000"], "threads is 100000; it must be at most 1,024"),
        (["train", "net=mlp", "net.widths=[1e9]"], r"net.widths\[0\] is .*; it must be at most 65,536"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_numbers_beyond_what_fits_are_refused_by_their_knob(
    words: list[str], said: str, here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert re.fullmatch(said, refused(words, capfd))
    assert list(here.iterdir()) == []


def test_double_precision_tells_more_times_apart() -> None:
    knobs.check({"sampler": {"name": "em"}, "steps": 2_000_000, "precision": "float64"})
    with pytest.raises(UserError, match="single precision"):
        knobs.check({"sampler": {"name": "em"}, "steps": 2_000_000, "precision": None})


def test_the_range_that_is_said_is_the_side_that_was_passed() -> None:
    assert knobs.COUNT.refusal(0) == "it must be 1 or more"
    assert knobs.COUNT.refusal(2**31) == "it must be at most 2,147,483,647" and knobs.COUNT.refusal(2**31 - 1) is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["sample", *ORACLE, "n=200000"], "n=200,000 points of 2 numbers: 3.05 MiB"),
        (
            ["sample", *ORACLE, "n=100", "steps=1000", "save_every=1"],
            "a trajectory of 1,001 states of 100 samples of 2 numbers: 1.53 MiB",
        ),
        (["evaluate", *ORACLE[:-1], "n=10", "metrics=[likelihood]", "n_test=200000"], "n_test=200,000 points of 2 numbers: 3.05 MiB"),
        (["simulate", "process=ou", "n=200000", "threads=1"], "n=200,000 points of 1 number: 3.05 MiB"),
        (["train", "batch_size=200000", "threads=1"], "batch_size=200,000 examples of 2 numbers: 4.58 MiB"),
        (["train", "net.widths=[300,300]", "threads=1"], r"a network of [\d,]+ parameters, trained with 1 average of them: 1.13 MiB"),
        (["train", "dataset=fixed", "dataset.size=100000", "threads=1"], "dataset.size=100,000: 1.53 MiB"),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else "",
)  # fmt: skip
def test_more_than_the_memory_is_refused_before_any_is_taken(
    words: list[str],
    said: str,
    here: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "installed", lambda: 2.0**20)
    assert re.match(rf"{said} of memory or more, and there are 1 MiB; take a ", refused(words, capfd))
    assert [path for path in here.rglob("*") if path.is_file()] == []


def test_a_program_that_takes_more_than_the_memory_is_refused_before_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies between its arguments and its results counts, as the compiler says it: 1 MiB here."""
    square = jax.jit(lambda x: jnp.sort(jnp.outer(x, x), axis=0).sum(axis=1))
    monkeypatch.setattr(memory, "installed", lambda: 2.0**20)
    machine.Compiler()(square, np.ones(16, np.float32))
    with pytest.raises(
        UserError, match=r"^the compiled program: .* MiB of memory or more, and there are 1 MiB; take less"
    ):
        machine.Compiler()(square, np.ones(512, np.float32))


def test_the_limits_of_control_groups_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cgroup").write_text("0::/a/b\n5:cpu:/\n4:memory:/c\n")
    (tmp_path / "root/a/b").mkdir(parents=True)
    (tmp_path / "root/memory/c").mkdir(parents=True)
    (tmp_path / "root/a/b/memory.max").write_text("max\n")
    (tmp_path / "root/a/memory.max").write_text("1000\n")
    (tmp_path / "root/memory/c/memory.limit_in_bytes").write_text("2000\n")
    assert memory._control_groups(tmp_path / "cgroup", tmp_path / "root") == [1000.0, 2000.0]
    assert memory._control_groups(tmp_path / "none", tmp_path / "root") == []
    monkeypatch.setitem(sys.modules, "resource", None)  # Windows has no such module
    assert memory._address_space() == float("inf")
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 0 < memory.installed() <= pages + memory._swap()
