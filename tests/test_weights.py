"""Seals on weight files: any change of a single byte is found."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from nasx.files import damage, seal

TENSORS = {"head.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "head.bias": np.zeros(2, dtype=np.float16)}
SEALED = seal(save(TENSORS, metadata={"format": "pt"}))


def write(directory: Path, data: bytes) -> Path:
    path = directory / "weights_0.safetensors"
    path.write_bytes(data)
    return path


def test_safetensors_reads_a_sealed_file_as_before(tmp_path: Path) -> None:
    read = load(SEALED)
    assert read.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        np.testing.assert_array_equal(read[name], tensor)
        assert read[name].dtype == tensor.dtype
    assert damage(write(tmp_path, SEALED)) is None


def test_sealing_twice_changes_nothing() -> None:
    assert seal(SEALED) == SEALED


def test_a_file_without_seal_passes(tmp_path: Path) -> None:
    assert damage(write(tmp_path, save(TENSORS))) is None


@given(place=st.integers(0, 27), bit=st.integers(0, 7))
@settings(max_examples=50, deadline=None)
def test_one_flipped_bit_of_the_tensors_is_found(
    tmp_path_factory: pytest.TempPathFactory, place: int, bit: int
) -> None:
    data = bytearray(SEALED)
    data[len(data) - 28 + place] ^= 1 << bit  # 6 x 4 + 2 x 2 bytes of tensors
    path = write(tmp_path_factory.getbasetemp(), bytes(data))
    assert damage(path) == "its tensors are not those that were written (their hash differs)"


@given(length=st.integers(0, len(SEALED) - 1))
@settings(max_examples=100, deadline=None)
def test_a_file_cut_anywhere_is_found(tmp_path_factory: pytest.TempPathFactory, length: int) -> None:
    assert damage(write(tmp_path_factory.getbasetemp(), SEALED[:length])) is not None


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", r"not a safetensors file \(0 bytes long\)"),
        (b"\xff" * 64, r"not a safetensors file \(cut off within its header\)"),
        (b"\x02" + b"\0" * 7 + b"[]", r"not a safetensors file \(its header is no JSON object\)"),
        (SEALED[:-4], "holds 24 bytes of tensors, 28 expected"),
        (SEALED + b"\0", "holds 29 bytes of tensors, 28 expected"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, data: bytes, what: str) -> None:
    assert re.match(what, damage(write(tmp_path, data)) or "")
