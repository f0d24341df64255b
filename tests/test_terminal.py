"""What is printed may go nowhere: the work goes on, nothing is a traceback, and a broken pipe is told by the status."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from diffsde import terminal

QUICK = "steps=30 batch_size=32 net.widths=[8] log_every=10"
DIFFSDE = f"{sys.executable} -m diffsde"
DRAW = "run=oracle dataset=gmm path=ot n=9 steps=32 plots=false"


def shell(line: str, here: Path) -> tuple[int, str, str]:
    done = subprocess.run(["bash", "-c", line], cwd=here, capture_output=True, text=True, timeout=300)
    return done.returncode, done.stdout, done.stderr


BROKEN = {
    "the reader leaves": ("{} | head -1; exit ${{PIPESTATUS[0]}}", 141),
    "the reader of both leaves": ("{} 2>&1 | head -1; exit ${{PIPESTATUS[0]}}", 141),
    "the reader is gone": ("{} | true; exit ${{PIPESTATUS[0]}}", 141),
    "a full disk": ("{} > /dev/full", 0),
    "both full": ("{} > /dev/full 2>&1", 0),
    "stdout closed": ("{} >&-", 0),
    "all closed": ("{} <&- >&- 2>&-", 0),
}


def test_jax_s_warnings_of_its_cache_are_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """One a program, as jax/_src/compiler.py words them; other warnings stay as they are."""
    before = warnings.showwarning
    with pytest.warns(UserWarning, match="another") as others, terminal.guarded():
        warnings.simplefilter("always")
        for name in ("jit_f", "jit_g"):
            text = f"Error writing persistent compilation cache entry for '{name}': OSError: [Errno 27] File too large"
            warnings.warn(text, UserWarning, stacklevel=1)
        warnings.warn("another", UserWarning, stacklevel=1)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(
        "warning: the cache of compiled programs cannot be written (OSError: [Errno 27] File too large)"
    )
    assert len(others) == 1 and warnings.showwarning is before


OFTEN = ("the reader of both leaves",)


@pytest.mark.parametrize("how", [how if how in OFTEN else pytest.param(how, marks=pytest.mark.slow) for how in BROKEN])
def test_training_goes_on_where_nobody_reads(how: str, tmp_path: Path) -> None:
    line, status = BROKEN[how]
    command = f"{DIFFSDE} train {QUICK} checkpoint_every=10 hydra.run.dir=run"
    code, _, error = shell(line.format(command), tmp_path)
    assert code == status
    assert "Traceback" not in error and "Exception ignored" not in error and "BrokenPipe" not in error
    assert (tmp_path / "run" / "summary.json").exists() and (tmp_path / "run" / "checkpoints" / "30").is_dir()
    if how == "a full disk":
        assert error == "warning: what is printed is lost from here on (No space left on device)\n"
    elif how != "the reader of both leaves":
        assert error == ""


@pytest.mark.parametrize(
    "words",
    [
        "--help",
        "explain",
        *(
            pytest.param(words, marks=pytest.mark.slow)
            for words in ("train --help", "train --cfg job", f"sample {DRAW}", f"sample -m seed=0,1 {DRAW}")
        ),
    ],
)
def test_every_command_ends_in_peace(words: str, tmp_path: Path) -> None:
    for line, status in (BROKEN["the reader is gone"], BROKEN["stdout closed"]):
        code, _, error = shell(line.format(f"{DIFFSDE} {words}"), tmp_path)
        assert (code, error) == (status, "")


def test_a_refusal_keeps_its_status_where_nobody_reads_it(tmp_path: Path) -> None:
    for line in ("{} 2>&-", "{} 2> /dev/full", "{} 2>&1 | true; exit ${{PIPESTATUS[0]}}"):
        code, output, error = shell(line.format(f"{DIFFSDE} train stepz=3"), tmp_path)
        assert (code, output, error) == (2, "", "")


@pytest.mark.slow
def test_a_closed_stream_does_not_become_a_file(tmp_path: Path) -> None:
    """The first file that is opened would get its number, and what others print there would be written into it."""
    code = "import os, sys; from diffsde.cli.main import main; main(sys.argv[1:]); os.write(1, b'stray'); os.write(2, b'stray')"
    line = f'{sys.executable} -c "{code}" train {QUICK} hydra.run.dir=run >&- 2>&-'
    assert shell(line, tmp_path)[0] == 0
    for path in (tmp_path / "run").rglob("*"):
        assert not path.is_file() or b"stray" not in path.read_bytes()


def test_names_that_the_terminal_cannot_show(tmp_path: Path) -> None:
    env = os.environ | {"PYTHONIOENCODING": "ascii"}
    line = [*DIFFSDE.split(), "sample", *DRAW.split(), "hydra.run.dir=größe"]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, env=env)
    assert done.returncode == 0, done.stderr
    assert rb"gr\xf6\xdfe/samples.npz" in done.stdout


def test_a_message_is_said_once_a_command() -> None:
    for _ in range(2):
        with terminal.guarded():
            assert [terminal.first_time(word) for word in ("a", "b", "a")] == [True, True, False]
            with terminal.guarded():  # a command within a command is the same one
                assert not terminal.first_time("b")


def test_printable_is_one_line() -> None:
    assert terminal.printable("a\nb\x1b[31m\tü") == r"a\nb\x1b[31m\tü"
