"""Reads pickled arrays without running anything that the file asks for.

A pickle is a program: it names callables and the reader calls them. Here a name resolves to one of five small functions
of this module, or to nothing. numpy itself is never called with values from the file: an array with a forged dtype
(object pointers read from raw bytes) would be as good as code. So arrays are stood in for by `_Array`, dtypes by
`_DType`, and only a plain numeric array of the right size is made of them.
"""

from __future__ import annotations

import math
import pickle
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nasx.errors import DataError

# What unpickling raises on damaged files, found by flipping and cutting bytes. A forged length gives a MemoryError.
_DAMAGE = (
    pickle.UnpicklingError,
    EOFError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    OverflowError,
    MemoryError,
    RecursionError,
    struct.error,
)
_NDARRAY = "numpy.ndarray"  # the class is only ever named in a pickle, as an argument: a word will do
_NUMERIC = re.compile("[biuf][1248]")  # booleans, integers and floats of so many bytes; no objects, records, texts


def load_pickled_dict(path: Path) -> dict[str, Any]:
    """The dictionary in a pickle file, of numpy arrays, numbers, text, bytes, and containers of these.

    Keys become text, whichever Python wrote them; text written by Python 2 stays bytes.
    Raises DataError for a damaged file, and for one that asks for anything else. Errors of the disk remain OSError.
    """
    with path.open("rb") as file:
        try:
            content = _ArrayUnpickler(file, path).load()
            if not isinstance(content, dict):
                raise ValueError(f"expected a dictionary, got {type(content).__name__}")
            return {_text(key): _plain(value) for key, value in content.items()}
        except _DAMAGE as error:
            raise DataError(
                f"{path} is no readable pickle of arrays ({str(error) or type(error).__name__}). Fetch the file again."
            ) from error


class _ArrayUnpickler(pickle._Unpickler):
    """Resolves names to the functions below alone.

    pickle's version in Python: its memo is a dictionary, where the one in C lets two bytes of a file claim gigabytes.
    It takes a third longer (0.2 s for a CIFAR batch).
    """

    def __init__(self, file: Any, path: Path) -> None:
        super().__init__(file, encoding="bytes")
        self.path = path

    def find_class(self, module: str, name: str) -> Any:
        # numpy 2 renamed numpy.core to numpy._core
        function = _ADMITTED.get((module.replace("numpy._core", "numpy.core"), name))
        if function is None:
            asked = repr(f"{module}.{name}"[:80])
            raise DataError(
                f"{self.path} is refused: it asks for {asked}, and a dataset needs nothing but arrays. "
                "Get the file from its publisher."
            )
        # A fresh function each time: whatever the file may set on it is gone with it.
        return function if isinstance(function, str) else lambda *arguments: function(*arguments)


class _DType:
    """Stands in for numpy.dtype(name, align, copy) until the byte order is set."""

    def __init__(self, name: Any) -> None:
        self.name = _text(name)
        self.order = "|"

    def __setstate__(self, state: Any) -> None:
        self.order = _text(state[1])  # (version, byte order, ...): what follows describes records and is not read

    def dtype(self) -> np.dtype[Any]:
        if self.order not in tuple("<>=|") or not _NUMERIC.fullmatch(self.name):
            raise ValueError("expected arrays of numbers")
        return np.dtype(self.order.replace("|", "=") + self.name)


class _Array:
    """Stands in for an array between its creation and the setting of its state."""

    value: NDArray[Any] | None = None

    def __setstate__(self, state: Any) -> None:
        _version, shape, dtype, fortran, raw = state
        self.value = _array(raw, dtype, shape, "F" if fortran else "C")


def _array(raw: Any, dtype: Any, shape: Any, order: str) -> NDArray[Any]:
    if not isinstance(dtype, _DType) or not isinstance(raw, (bytes, bytearray)):
        raise ValueError("expected the raw bytes of a numeric array")
    if not isinstance(shape, tuple) or not all(type(length) is int and length >= 0 for length in shape):
        raise ValueError("expected the shape of an array")
    numbers = dtype.dtype()
    size = math.prod(shape) * numbers.itemsize
    if len(raw) != size:
        raise ValueError(f"expected {size} bytes for an array, got {len(raw)}")
    return np.frombuffer(raw, numbers).reshape(shape, order="F" if order == "F" else "C")


def _reconstruct(subtype: Any, _shape: Any, _typecode: Any) -> _Array:
    """An array of protocols 2 to 4, empty until its state is set."""
    if subtype is not _NDARRAY:
        raise ValueError("expected numpy.ndarray")
    return _Array()


def _frombuffer(raw: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    """An array of protocol 5."""
    array = _Array()
    array.value = _array(raw, dtype, shape, order)
    return array


def _scalar(dtype: Any, raw: Any) -> int | float | bool:
    """A numpy number as a Python number."""
    number: int | float | bool = _array(raw, dtype, (), "C").item()
    return number


def _dtype(name: Any, *_align_and_copy: Any) -> _DType:
    return _DType(name)


def _encode(text: str, encoding: Any) -> bytes:
    """Bytes of protocol 2, which Python 3 writes as text in latin-1."""
    if encoding != "latin1":
        raise ValueError("expected bytes in latin1")
    return text.encode("latin1")


_ADMITTED: dict[tuple[str, str], Callable[..., Any] | str] = {
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _dtype,
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy.core.numeric", "_frombuffer"): _frombuffer,
    ("_codecs", "encode"): _encode,
}


def _text(word: Any) -> str:
    if isinstance(word, bytes):
        return word.decode("utf-8")
    if not isinstance(word, str):
        raise ValueError(f"expected a word, got {type(word).__name__}")
    return word


def _plain(value: Any) -> Any:
    """The array that a stand-in stands for."""
    if not isinstance(value, _Array):
        return value
    if value.value is None:
        raise ValueError("an array has no content")
    return value.value
