"""Checksums in weight files: a change of a single bit is detected."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from nasx.files import add_checksum, find_corruption

TENSORS = {"head.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "head.bias": np.zeros(2, dtype=np.float16)}
CHECKED = add_checksum(save(TENSORS, metadata={"format": "pt"}))


def write(directory: Path, data: bytes) -> Path:
    path = directory / "weights_0.safetensors"
    path.write_bytes(data)
    return path


def test_safetensors_reads_a_file_with_a_checksum(tmp_path: Path) -> None:
    read = load(CHECKED)
    assert read.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        np.testing.assert_array_equal(read[name], tensor)
        assert read[name].dtype == tensor.dtype
    assert find_corruption(write(tmp_path, CHECKED)) is None


def test_a_second_checksum_changes_nothing() -> None:
    assert add_checksum(CHECKED) == CHECKED


def test_a_file_without_checksum_passes(tmp_path: Path) -> None:
    assert find_corruption(write(tmp_path, save(TENSORS))) is None


@given(place=st.integers(0, 27), bit=st.integers(0, 7))
@settings(max_examples=50, deadline=None)
def test_one_flipped_bit_of_the_tensors_is_detected(
    tmp_path_factory: pytest.TempPathFactory, place: int, bit: int
) -> None:
    data = bytearray(CHECKED)
    data[len(data) - 28 + place] ^= 1 << bit  # 6 x 4 + 2 x 2 bytes of tensors
    path = write(tmp_path_factory.getbasetemp(), bytes(data))
    assert find_corruption(path) == "its checksum does not match its tensors"


@given(length=st.integers(0, len(CHECKED) - 1))
@settings(max_examples=100, deadline=None)
def test_a_truncated_file_is_detected(tmp_path_factory: pytest.TempPathFactory, length: int) -> None:
    assert find_corruption(write(tmp_path_factory.getbasetemp(), CHECKED[:length])) is not None


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", r"not a safetensors file \(it has 0 bytes\)"),
        (b"\xff" * 64, r"not a safetensors file \(its header is truncated\)"),
        (b"\x02" + b"\0" * 7 + b"[]", r"not a safetensors file \(its header is not a JSON object\)"),
        (CHECKED[:-4], "contains 24 bytes of tensors, expected 28"),
        (CHECKED + b"\0", "contains 29 bytes of tensors, expected 28"),
    ],
)
def test_the_problem_is_named(tmp_path: Path, data: bytes, problem: str) -> None:
    assert re.match(problem, find_corruption(write(tmp_path, data)) or "")


@pytest.mark.parametrize("letters", range(9))
def test_tensors_start_at_a_multiple_of_eight_bytes(letters: int) -> None:
    data = add_checksum(save({"w" * (letters + 1): np.zeros(3)}, metadata={"note": "x" * letters}))

    header = int.from_bytes(data[:8], "little")
    assert header % 8 == 0
    assert len(data) == 8 + header + 3 * 8
