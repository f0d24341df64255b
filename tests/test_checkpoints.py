"""Checkpoints: what comes back is what was written, or is said to be damaged; and which are kept."""

from __future__ import annotations

import errno
import logging
import os
import resource
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from orbax.checkpoint import v1 as ocp

from diffsde import checkpoints
from diffsde.checkpoints import CheckpointManager, load, sealed, steps
from diffsde.errors import UserError


def tree(seed: int = 0) -> dict[str, Any]:
    noise = jax.random.normal(jax.random.key(seed), (64, 48))
    half = jnp.asarray([1.5, -2.0], jnp.bfloat16)
    return {"state": {"step": jnp.asarray(7), "layers/0/kernel": noise, "half": half}, "one": jnp.asarray(0.5)}


def kept_last(saved: list[int]) -> None:
    return None


def written(folder: Path, numbers: list[int], keep: int = 9) -> Path:
    manager = CheckpointManager(folder / "checkpoints", keep, kept_last)
    for number in numbers:
        manager.save(number, tree(number))
    manager.wait()
    return folder / "checkpoints"


def test_what_was_saved_comes_back_to_the_bit(tmp_path: Path) -> None:
    where = written(tmp_path, [3])
    step, found = load(where, pytest.fail)
    assert step == 3
    assert jax.tree.structure(found) == jax.tree.structure(tree())
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(tree(3)), strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("name", ["[red]x", "a*b?[1]", "a b (1), 'c' $HOME", ":smile: #1", "größe"])
def test_a_folder_may_have_any_name(name: str, tmp_path: Path) -> None:
    """Brackets and stars too, which orbax takes for a pattern."""
    where = written(tmp_path / name, [3, 4], keep=1)
    assert steps(where) == [4]
    found = load(where, pytest.fail)[1]
    np.testing.assert_array_equal(found["state"]["layers/0/kernel"], tree(4)["state"]["layers/0/kernel"])


def test_the_newest_and_the_best_stay(tmp_path: Path) -> None:
    """Of five the last two, and the one that is called best; a save waits for the one before and none is skipped."""
    manager = CheckpointManager(tmp_path / "checkpoints", 2, lambda saved: 20 if 20 in saved else None)
    for number in (10, 20, 30, 40, 50):
        manager.save(number, tree(number))
    manager.wait()
    assert steps(tmp_path / "checkpoints") == [20, 40, 50]
    assert all(path.name.isdigit() for path in (tmp_path / "checkpoints").iterdir())
    assert float(load(tmp_path / "checkpoints", pytest.fail, step=20)[1]["state"]["layers/0/kernel"][0, 0]) == float(
        tree(20)["state"]["layers/0/kernel"][0, 0]
    )


def test_the_saved_values_are_those_of_the_moment(tmp_path: Path) -> None:
    """The buffers may be given to the next step at once."""
    manager = CheckpointManager(tmp_path / "checkpoints", 2, kept_last)
    state = {"x": jnp.zeros(1_000_000)}
    step = jax.jit(lambda state: {"x": state["x"] + 1}, donate_argnums=0)
    for number in range(5):
        manager.save(number, state)
        for _ in range(20):
            state = step(state)
    manager.wait()
    for number in (3, 4):
        found = np.asarray(load(tmp_path / "checkpoints", pytest.fail, step=number)[1]["x"])
        assert set(found) == {20.0 * number}


def test_what_is_read_is_summed_as_what_is_written(x64: None) -> None:
    """By numpy on the host, and by the program that saves: the same for every type and shape."""
    shapes = ((), (5,), (3, 4), (2, 3, 4))
    types = ("float32", "float64", "bfloat16", "int32", "uint8")
    tree = {
        f"{kind}{shape}": (37 * jax.random.normal(jax.random.key(len(shape)), shape)).astype(kind)
        for kind in types
        for shape in shapes
    }
    copy, seal = checkpoints.copied(tree)
    np.testing.assert_array_equal(seal, np.asarray(checkpoints.sealed(tree)[1]))
    for one, other in zip(jax.tree.leaves(copy), jax.tree.leaves(tree), strict=True):
        assert one.dtype == other.dtype and one.unsafe_buffer_pointer() != other.unsafe_buffer_pointer()
        np.testing.assert_array_equal(one, other)


def test_every_flipped_bit_changes_the_checksum() -> None:
    """Of an array of every width of word, at every bit of some words."""
    for dtype, word in ((jnp.float32, jnp.uint32), (jnp.bfloat16, jnp.uint16), (jnp.int8, jnp.uint8)):
        bits = jax.random.bits(jax.random.key(1), (40,), word)
        whole = np.asarray(sealed({"x": jax.lax.bitcast_convert_type(bits, dtype)})[1])
        for at in (0, 17, 39):
            for bit in range(bits.dtype.itemsize * 8):
                flipped = bits.at[at].set(bits[at] ^ word(1 << bit))
                assert not np.array_equal(sealed({"x": jax.lax.bitcast_convert_type(flipped, dtype)})[1], whole)
        swapped = bits.at[jnp.array([3, 5])].set(bits[jnp.array([5, 3])])
        assert not np.array_equal(sealed({"x": jax.lax.bitcast_convert_type(swapped, dtype)})[1], whole)


def test_damage_is_noticed_wherever_it_is_and_the_one_before_taken(tmp_path: Path) -> None:
    """A byte in the middle of each file of the newest checkpoint, one at a time: never a wrong value without a word."""
    where = written(tmp_path, [1, 2])
    truth = tree(2)
    noticed = 0
    for path in sorted(path for path in (where / "2").rglob("*") if path.is_file() and path.stat().st_size):
        whole = path.read_bytes()
        broken = bytearray(whole)
        broken[len(broken) // 2] ^= 1
        path.write_bytes(bytes(broken))
        said: list[str] = []
        step, found = load(where, said.append)
        if step == 1:
            noticed += 1
            assert len(said) == 1 and "is damaged" in said[0] and "step 1" in said[0] and "\n" not in said[0]
        else:  # in a part that says nothing of the values
            for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(truth), strict=True):
                np.testing.assert_array_equal(ours, theirs)
        path.write_bytes(whole)
    assert noticed
    assert load(where, pytest.fail)[0] == 2


def test_a_changed_value_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values that are read without an error but are not those that were written: the checksum tells."""
    where = written(tmp_path, [1, 2])
    honest = ocp.load

    def other(path: Path, like: Any) -> Any:
        found = honest(path, like)
        if path.name == "2":
            kernel = found["tree"]["state"]["layers/0/kernel"]
            found["tree"]["state"]["layers/0/kernel"] = kernel.at[5, 5].set(jnp.nextafter(kernel[5, 5], jnp.inf))
        return found

    monkeypatch.setattr(ocp, "load", other)
    said: list[str] = []
    assert load(where, said.append)[0] == 1
    assert "checksum" in said[0]
    with pytest.raises(UserError, match=r"'.*2' is damaged"):
        load(where, pytest.fail, step=2)


def test_with_none_left_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no checkpoint; train it first"):
        load(tmp_path / "checkpoints", pytest.fail)
    (tmp_path / "config.json").touch()
    with pytest.raises(UserError, match="has no checkpoint yet; diffsde train run="):
        load(tmp_path / "checkpoints", pytest.fail)
    (tmp_path / "summary.json").touch()  # as finished, to which `train run=` would say no more than that
    with pytest.raises(UserError, match=r"has finished, but its checkpoints are gone.*diffsde rerun "):
        load(tmp_path / "checkpoints", pytest.fail)
    where = written(tmp_path, [1])
    with pytest.raises(UserError, match="has none of step 2; there are 1"):
        load(where, pytest.fail, step=2)
    for path in (where / "1").rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    with pytest.raises(UserError, match=r"'.*1' is damaged") as caught:
        load(where, pytest.fail)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_that_says_more_than_its_files_hold_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Zeros compress 10,000 times, numbers of a network do not."""
    monkeypatch.setattr(checkpoints, "SLACK", 2**20)
    manager = CheckpointManager(tmp_path / "checkpoints", 9, kept_last)
    manager.save(1, {"x": jax.random.normal(jax.random.key(0), (300_000,))})
    manager.save(2, {"x": jnp.zeros(4_000_000)})
    manager.wait()
    monkeypatch.setattr(ocp, "load", lambda path, like: pytest.fail("read") if path.name == "2" else honest(path, like))
    said: list[str] = []
    assert load(tmp_path / "checkpoints", said.append)[0] == 1
    assert "is damaged (it says 15.3 MiB of numbers, and its files have" in said[0]


honest = ocp.load


def with_cause(cause: BaseException) -> BaseException:
    error = ValueError("cannot be read")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.EACCES, "Permission denied", "x"), "Permission denied; "),
        (with_cause(OSError(errno.EIO, "Input/output error", "x")), "Input/output error; the disk cannot be read"),
        (with_cause(MemoryError()), "memory is not available"),
        (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1024 bytes."), "memory of 1 KiB"),
        (ValueError("RESOURCE_EXHAUSTED: Error opening [os_error_code='24']"), "Too many open files; raise the limit"),
    ],
)
def test_what_the_machine_lacks_says_nothing_against_a_checkpoint(
    error: BaseException, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None before it is taken, by which a sound one would be lost; of a file that is not there it is."""
    where = written(tmp_path, [1, 2])

    def failing(path: Path, like: Any) -> Any:
        if path.name == "2":
            raise error
        return honest(path, like)

    monkeypatch.setattr(ocp, "load", failing)
    with pytest.raises(UserError, match="cannot be read: ") as caught:
        load(where, pytest.fail)
    assert f"checkpoint '{where / '2'}' cannot be read: {said}" in str(caught.value)
    error = FileNotFoundError(errno.ENOENT, "No such file", "x")
    warnings: list[str] = []
    assert load(where, warnings.append)[0] == 1 and "is damaged" in warnings[0]


def test_a_limit_on_open_files_is_no_damage(tmp_path: Path) -> None:
    """The system's own error."""
    where = written(tmp_path, [1, 2])
    load(where, pytest.fail)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/dev/fd")), before[1]))
    try:
        with pytest.raises(UserError, match="2' cannot be read: Too many open files; raise the limit"):
            load(where, pytest.fail)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert load(where, pytest.fail)[0] == 2


def test_only_what_was_written_without_a_checksum_is_read_without(tmp_path: Path) -> None:
    """Of another format a checkpoint that has none has lost it."""
    kept = {"moments": {"mean": jnp.zeros(2)}, "state": {"ema": {"w": jnp.ones(3)}, "params": {"w": jnp.ones(3)}}}
    ocp.save(tmp_path / "checkpoints" / "1", kept)
    with pytest.raises(UserError, match=r"1' is damaged"):
        load(tmp_path / "checkpoints", pytest.fail)
    found = load(tmp_path / "checkpoints", pytest.fail, has_seal=False)[1]
    assert found["state"]["ema"]["w"].shape == (1, 3)


@pytest.mark.parametrize("count", [0, 1, 5, 1000, 1001, 4096])
def test_a_checksum_is_the_same_in_any_blocks(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "BLOCK", 1000)
    bits = np.random.default_rng(0).integers(0, 2**32, count, np.uint32)
    exact = sum((2 * i + 1) * int(word) for i, word in enumerate(bits)) % 2**32
    assert checkpoints.checksum_read([bits]) == exact


def test_leftovers_of_a_killed_save_are_cleared(tmp_path: Path) -> None:
    where = written(tmp_path, [1])
    for name in (".removed-0", "2.orbax-checkpoint-tmp", "2.orbax-checkpoint-tmp-17"):
        (where / name).mkdir()
    CheckpointManager(where, 2, kept_last)
    assert [path.name for path in where.iterdir()] == ["1"]


@pytest.mark.parametrize("largest", [100, 3000])
def test_a_checkpoint_that_finds_no_room_is_a_line_and_the_one_before_stays(
    largest: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The system's own error, of a limit on a file's size; nothing of it stays, and nothing else is said."""
    manager = CheckpointManager(tmp_path / "checkpoints", 9, kept_last)
    manager.save(1, tree(1))
    manager.wait()
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, before[1]))
    try:
        with pytest.raises(UserError) as caught:
            manager.save(2, tree(2))
            manager.wait()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    said = str(caught.value)
    assert said.startswith(f"checkpoint '{tmp_path / 'checkpoints' / '2'}' could not be written: File too large; ")
    assert said.endswith("the checkpoint of step 1 is whole, and the same command goes on from it")
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["1"]
    manager.save(2, tree(2))  # once there is room
    manager.wait()
    assert load(tmp_path / "checkpoints", pytest.fail)[0] == 2
    assert "Traceback" not in capfd.readouterr().err


def test_only_orbax_is_muted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its threads end after the call that failed and say so; what others cannot raise is said still."""
    said: list[str] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda about: said.append(str(about.exc_value)))
    checkpoints.mute_orbax()
    hook = sys.unraisablehook
    checkpoints.mute_orbax()
    assert sys.unraisablehook is hook
    for error in (RuntimeError("Event loop is closed"), RuntimeError("another")):
        hook(SimpleNamespace(exc_value=error))
    assert said == ["another"]
    for text, shown in (("coro=<orbax.f()>", False), ("coro=<mine()>", True)):
        assert checkpoints.not_of_orbax(logging.LogRecord("asyncio", 40, "", 0, text, None, None)) is shown
