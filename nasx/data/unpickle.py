"""Safe unpickling: read pickled arrays without executing code from the file.

A pickle is a program: it names callables, and the unpickler calls them. Here a name resolves to one of five small
functions of this module, or is an error. numpy is never called with unchecked values from the file, because an array
with a forged dtype (object pointers read from raw bytes) can execute code. `_Array` and `_DType` are placeholders for
arrays and dtypes; only a plain numeric array of the right size is created from them.
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

# Exceptions of unpickling damaged files, found by changing and removing bytes. A forged length raises MemoryError.
_UNPICKLING_ERRORS = (
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
_NDARRAY = "numpy.ndarray"  # pickles pass the class only as an argument: a string is enough
_NUMERIC = re.compile("[biuf][1248]")  # booleans, integers, floats and their bytes; no objects, records or text


def load_pickled_dict(path: Path) -> dict[str, Any]:
    """Return the dictionary in a pickle file, of numpy arrays, numbers, text, bytes, and containers of these.

    Keys become text, whether Python 2 or 3 wrote them; text values of Python 2 stay bytes.
    Raises DataError if the file is damaged or names another callable. Errors of the disk stay OSError.
    """
    with path.open("rb") as file:
        try:
            content = _ArrayUnpickler(file, path).load()
            if not isinstance(content, dict):
                raise ValueError(f"expected a dictionary, got {type(content).__name__}")
            return {_text(key): _plain(value) for key, value in content.items()}
        except _UNPICKLING_ERRORS as error:
            problem = str(error) or type(error).__name__
            raise DataError(
                f"{path} cannot be read as a pickle of arrays ({problem}). Download the file again."
            ) from error


class _ArrayUnpickler(pickle._Unpickler):
    """Unpickler that resolves names only to the functions below.

    Based on pickle's Python version: its memo is a dictionary, while two bytes of a file can make the C version
    allocate gigabytes. It takes a third longer (0.2 s for a CIFAR batch).
    """

    def __init__(self, file: Any, path: Path) -> None:
        super().__init__(file, encoding="bytes")
        self.path = path

    def find_class(self, module: str, name: str) -> Any:
        # numpy 2 renamed numpy.core to numpy._core
        function = _ALLOWED.get((module.replace("numpy._core", "numpy.core"), name))
        if function is None:
            named = repr(f"{module}.{name}"[:80])
            raise DataError(
                f"{self.path} is refused: it names {named}, but a dataset must contain only arrays. "
                "Get the file from its publisher."
            )
        # A new function each time, so that attributes set by the file do not persist.
        return function if isinstance(function, str) else lambda *arguments: function(*arguments)


class _DType:
    """Placeholder of numpy.dtype(name, align, copy) until the byte order is set."""

    def __init__(self, name: Any) -> None:
        self.name = _text(name)
        self.order = "|"

    def __setstate__(self, state: Any) -> None:
        self.order = _text(state[1])  # (version, byte order, ...): the rest describes records and is ignored

    def dtype(self) -> np.dtype[Any]:
        if self.order not in tuple("<>=|") or not _NUMERIC.fullmatch(self.name):
            raise ValueError("expected arrays of numbers")
        return np.dtype(self.order.replace("|", "=") + self.name)


class _Array:
    """Placeholder of an array between its creation and the setting of its state."""

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
    """Return an array of protocols 2 to 4, empty until its state is set."""
    if subtype is not _NDARRAY:
        raise ValueError("expected numpy.ndarray")
    return _Array()


def _frombuffer(raw: Any, dtype: Any, shape: Any, order: Any) -> _Array:
    """Return an array of protocol 5."""
    array = _Array()
    array.value = _array(raw, dtype, shape, order)
    return array


def _scalar(dtype: Any, raw: Any) -> int | float | bool:
    """Return a numpy number as a Python number."""
    number: int | float | bool = _array(raw, dtype, (), "C").item()
    return number


def _dtype(name: Any, *_align_and_copy: Any) -> _DType:
    return _DType(name)


def _encode(text: str, encoding: Any) -> bytes:
    """Return bytes of protocol 2, which Python 3 writes as text in latin-1."""
    if encoding != "latin1":
        raise ValueError("expected bytes in latin1")
    return text.encode("latin1")


_ALLOWED: dict[tuple[str, str], Callable[..., Any] | str] = {
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
        raise ValueError(f"expected text, got {type(word).__name__}")
    return word


def _plain(value: Any) -> Any:
    """Return the array of a placeholder, and any other value unchanged."""
    if not isinstance(value, _Array):
        return value
    if value.value is None:
        raise ValueError("an array has no content")
    return value.value
