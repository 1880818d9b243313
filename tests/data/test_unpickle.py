"""Pickles of arrays are read without executing code from them."""

from __future__ import annotations

import codecs
import io
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from nasx.data import unpickle
from nasx.data.unpickle import load_pickled_dict
from nasx.errors import DataError
from tests.factories.published_formats import cifar_batch

REFUSED = r"is refused: it names .*, but a dataset must contain only arrays\. Get the file from its publisher\."


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@given(
    array=arrays.arrays(st.sampled_from(["?", "u1", "<i2", ">i4", "i8", "f4", ">f8"]), arrays.array_shapes(min_dims=0))
)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_numeric_arrays_of_every_protocol_are_read_as_they_were(protocol, array, tmp_path):
    path = tmp_path / "file"
    content = {"array": array, b"bytes": b"\xff\0", "number": array.dtype.type(1), "list": [1, (2.5, None, "word")]}
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    read = load_pickled_dict(path)
    assert read["array"].dtype == array.dtype
    np.testing.assert_array_equal(read["array"], array)
    assert read["bytes"] == b"\xff\0"
    assert read["number"] == 1
    assert read["list"] == [1, (2.5, None, "word")]


# --- attacks: each would create a file ------------------------------------------------------------------------------


class Calls:
    """Object whose unpickling calls `function` with `arguments`."""

    def __init__(self, function, *arguments) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def by_global(module: str, name: str, *arguments: str, protocol: int = 0) -> bytes:
    """Return a pickle that calls a name; pickle itself would write another name."""
    words = b"".join(b"V" + argument.encode() + b"\n" for argument in arguments)
    return b"c" + f"{module}\n{name}\n".encode() + b"(" + words + b"tR."


def attacks(target: Path) -> dict[str, bytes]:
    command, statement = f"touch {target}", f"open({str(target)!r}, 'w').close()"
    harmless = {"data": np.zeros(3, np.uint8), "labels": [1]}
    return {
        "os.system": by_global("os", "system", command),
        "posix.system": by_global("posix", "system", command),
        "subprocess": by_global("subprocess", "getoutput", command),
        "eval": by_global("builtins", "eval", statement),
        "exec of Python 2": by_global("__builtin__", "eval", statement),
        "open": pickle.dumps(Calls(open, str(target), "w")),
        "as a value": pickle.dumps(harmless | {"data": Calls(exec, statement)}),
        "as a key": pickle.dumps({(Calls(exec, statement),): 1}),
        "deep inside": pickle.dumps(harmless | {"labels": [[[Calls(exec, statement)]]]}),
        "in an object array": pickle.dumps({"data": np.array([Calls(exec, statement)], dtype=object)}),
        "dotted through numpy": b"\x80\x04\x8c\x05numpy\x8c\x0fcore.os.system\x93\x8c"
        + struct.pack("B", len(command))
        + command.encode()
        + b"\x85R.",
        "another name of numpy": by_global("numpy", "fromfile", str(target)),
        "numpy.f2py": by_global("numpy.testing._private.utils", "runstring", statement, "{}"),
        "load of numpy": by_global("numpy", "load", str(target)),
        "a codec": pickle.dumps({"data": Calls(codecs.encode, statement, "rot13")}),
        "getattr": by_global("builtins", "getattr", "x", "__class__"),
        "an instance by INST": b"(V" + command.encode() + b"\nios\nsystem\n.",
        "an instance by OBJ": b"(cos\nsystem\nV" + command.encode() + b"\no.",
        "an extension code": b"\x80\x02\x82\x01.",
        "a persistent id": b"Psomething\n.",
        "numpy.ndarray called": by_global("numpy", "ndarray", "3"),
    }


@pytest.mark.parametrize("attack", attacks(Path("/none")))
def test_a_malicious_pickle_runs_nothing(attack, tmp_path):
    target, path = tmp_path / "executed", tmp_path / "file"
    path.write_bytes(attacks(target)[attack])
    with pytest.raises(DataError) as caught:
        load_pickled_dict(path)
    assert not target.exists()
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_attacks_would_work_on_a_plain_unpickler(tmp_path):
    target = tmp_path / "executed"
    pickle.loads(attacks(target)["os.system"])
    assert target.exists()


def test_a_refusal_names_the_callable(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(by_global("os", "system", "true"))
    with pytest.raises(DataError, match=REFUSED.replace(".*", r"'os\.system'")):
        load_pickled_dict(path)


def test_attributes_set_by_a_file_do_not_persist(tmp_path):
    """BUILD could set attributes on the function for numpy.dtype, with effect on every later file."""
    path = tmp_path / "file"
    path.write_bytes(b"}Vk\ncnumpy\ndtype\n(N}V__defaults__\n(Vx\ntstbs.")
    load_pickled_dict(path)
    assert unpickle._dtype.__defaults__ is None


# --- forged arrays: numpy would read pointers out of these bytes ----------------------------------------------------


class Forged:
    """Array of any dtype with a forged state."""

    def __init__(self, dtype: np.dtype, shape: tuple, raw: object) -> None:
        self.state = (1, shape, dtype, False, raw)

    def __reduce__(self):
        reconstruct, arguments, _ = np.zeros(1).__reduce__()
        return reconstruct, arguments, self.state


U1 = np.dtype("u1")
FORGED = {
    "objects from raw bytes": Forged(np.dtype("O"), (1,), b"\x41" * 8),
    "objects as a list": Forged(np.dtype("O"), (1,), [1]),
    "text": Forged(np.dtype("U2"), (1,), b"\0" * 8),
    "bytes": Forged(np.dtype("S8"), (1,), b"\0" * 8),
    "dates": Forged(np.dtype("M8[s]"), (1,), b"\0" * 8),
    "complex": Forged(np.dtype("c8"), (1,), b"\0" * 8),
    "records": Forged(np.dtype([("a", "u1"), ("b", "O")]), (1,), b"\0" * 9),
    "more shape than bytes": Forged(U1, (2**40, 2**40), b"\0"),
    "fewer shape than bytes": Forged(U1, (1,), b"\0\0"),
    "negative shape": Forged(U1, (-1,), b"\0"),
    "shape of booleans": Forged(U1, (True,), b"\0"),
    "shape of texts": Forged(U1, ("1",), b"\0"),
    "shape a list": Forged(U1, [1], b"\0"),  # type: ignore[arg-type]
    "text for bytes": Forged(U1, (1,), "a"),
    "nothing": Forged(U1, (1,), None),
    "dtype a word": Forged("u1", (1,), b"\0"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("case", FORGED)
def test_forged_arrays_cannot_be_read_as_a_pickle_of_arrays(case, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(pickle.dumps({"data": FORGED[case]}, protocol=4))
    with pytest.raises(DataError, match=r"cannot be read as a pickle of arrays \(.+\)\. Download the file again\."):
        load_pickled_dict(path)


@pytest.mark.parametrize("array", [np.array(["a", 1], object), np.array(["text"]), np.zeros(2, "M8[s]")])
@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_arrays_of_anything_but_numbers_are_refused(array, protocol, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(pickle.dumps({"data": array}, protocol=protocol))
    with pytest.raises(DataError):
        load_pickled_dict(path)


def test_a_forged_memo_index_claims_no_memory(tmp_path):
    """Two of these bytes make the C unpickler allocate 32 GiB."""
    path = tmp_path / "file"
    path.write_bytes(b"}r" + struct.pack("<I", 2**31 - 1) + b".")
    assert load_pickled_dict(path) == {}


def test_a_pickle_nested_a_hundred_thousand_deep_is_read_or_refused(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"}(Va\n" + b"]" * 100_000 + b"a" * 99_999 + b"u.")
    assert list(load_pickled_dict(path)) == ["a"]


# --- damage of every kind -------------------------------------------------------------------------------------------


def pickled_batch(protocol: int) -> bytes:
    return pickle.dumps(cifar_batch(2, 2, 0) | {"data": np.zeros((2, 8), np.uint8)}, protocol=protocol)


@given(data=st.data(), protocol=st.sampled_from([0, 2, 4, 5]))
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_changed_bytes_result_in_a_dictionary_or_a_data_error(data, protocol, tmp_path):
    raw = bytearray(pickled_batch(protocol))
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "file"
    path.write_bytes(raw)
    try:
        assert isinstance(load_pickled_dict(path), dict)
    except DataError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_a_file_cut_anywhere_is_a_data_error(protocol, tmp_path):
    raw = pickled_batch(protocol)
    path = tmp_path / "file"
    for length in range(len(raw)):
        path.write_bytes(raw[:length])
        with pytest.raises(DataError):
            load_pickled_dict(path)


@given(raw=st.binary(max_size=60))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_noise_is_a_data_error_unless_it_is_a_pickle(raw, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(raw)
    try:
        load_pickled_dict(path)
    except DataError:
        return
    assert isinstance(pickle.load(io.BytesIO(raw)), dict)
