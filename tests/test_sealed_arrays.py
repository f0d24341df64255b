"""Files of arrays with a hash: what was written comes back, and nothing else does."""

from pathlib import Path

import numpy as np
import pytest

from diffsde.runs.sealed_arrays import Damaged, read_sealed, write_sealed

ARRAYS = {"y": np.arange(6.0).reshape(3, 2), "z": np.ones((3, 2), np.float32), "label": np.array([0, 1, 1], np.int32)}


def test_what_was_written_comes_back(tmp_path: Path) -> None:
    file = write_sealed(tmp_path / "there" / "pairs.npz", ARRAYS)
    found = read_sealed(file)
    assert found.keys() == ARRAYS.keys() and [each.name for each in file.parent.iterdir()] == ["pairs.npz"]
    for name, values in ARRAYS.items():
        assert found[name].dtype == values.dtype
        np.testing.assert_array_equal(found[name], values)


def test_no_changed_byte_is_read_as_other_numbers(tmp_path: Path) -> None:
    """Of every 7th byte, and of a file cut short: refused, or the same arrays where the byte is not of them."""
    file = write_sealed(tmp_path / "pairs.npz", ARRAYS)
    whole, refused = file.read_bytes(), 0
    for place in range(0, len(whole), 7):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :])
        try:
            found = read_sealed(file)
        except Damaged:
            refused += 1
            continue
        assert all(np.array_equal(found[name], values) for name, values in ARRAYS.items()), place
    assert refused > 20
    for damaged in (whole[: len(whole) // 2], b""):
        file.write_bytes(damaged)
        with pytest.raises(Damaged):
            read_sealed(file)
    with pytest.raises(FileNotFoundError):
        read_sealed(tmp_path / "absent.npz")


def test_numbers_that_were_replaced_are_refused(tmp_path: Path) -> None:
    """By a program that writes a sound archive."""
    file = write_sealed(tmp_path / "pairs.npz", ARRAYS)
    with np.load(file) as archive:
        values = dict(archive)
    np.savez(file, **(values | {"z": values["z"] + 1}))
    with pytest.raises(Damaged, match="not what was written"):
        read_sealed(file)
