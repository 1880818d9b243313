"""Atomic writes, JSON records, disk errors as ResourceError, and checksums inside safetensors files."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import stat
import struct
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from nasx.errors import ResourceError, RunError

T = TypeVar("T")
_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})
_NO_PERMISSION = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
MAX_RECORD = 100_000_000  # bytes of a JSON record
MAX_WEIGHTS = 2**36  # bytes of a file of weights
_KINDS = {  # type of a file -> in words
    stat.S_IFLNK: "a link",
    stat.S_IFDIR: "a directory",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFREG: "a file",
}
_NO_PLACE = frozenset(  # the path cannot be a file, e.g. below /proc or below another file
    {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL, errno.EIO}
)


def disk_full_error(what: str) -> ResourceError:
    """Return the error for a full disk or an exhausted quota while writing `what`, e.g. "the journal runs/a/run.db"."""
    return ResourceError(
        f"no space left on the disk while writing {what}. Free some space, then resume with --resume: "
        "every finished trial is kept."
    )


@contextmanager
def translate_disk_errors(what: str) -> Iterator[None]:
    """Raise ResourceError with the name of the file, `what`, if the block meets a full or write-protected disk.

    The same for a path that cannot be created.
    """
    try:
        yield
    except OSError as exc:
        if exc.errno in _NO_SPACE:
            raise disk_full_error(what) from exc
        if exc.errno in _NO_PERMISSION:
            raise ResourceError(
                f"{what} cannot be written ({exc.strerror}). "
                "Check the permissions of its directory, or choose another one."
            ) from exc
        if exc.errno in _NO_PLACE:
            raise ResourceError(f"{what} cannot be written ({exc.strerror}). Choose another path.") from exc
        raise


def kind_of(mode: int) -> str:
    """Return the type of a file in words, from `os.stat_result.st_mode`."""
    return _KINDS.get(stat.S_IFMT(mode), "of an unknown type")


def read_bounded(path: Path, max_bytes: int, *, follow: bool = False) -> bytes:
    """Read a regular file, without waiting for a pipe or reading a file of any size.

    Args:
        path: The file.
        max_bytes: Its maximum size.
        follow: Accept a link to a file.

    Raises:
        FileNotFoundError: If there is none.
        RunError: If it is something else, too large, or not readable.
    """
    try:
        links = 0 if follow else os.O_NOFOLLOW
        descriptor = os.open(path, os.O_RDONLY | links | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        raise
    except OSError as exc:
        problem = "is a link, expected a file" if exc.errno == errno.ELOOP else f"cannot be read ({exc.strerror})"
        raise RunError(f"{path} {problem}.") from exc
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise RunError(f"{path} is {kind_of(status.st_mode)}, expected a file.")
    with os.fdopen(descriptor, "rb") as file:
        if status.st_size > max_bytes:
            raise RunError(f"{path} has {status.st_size:,} bytes, expected at most {max_bytes:,}.")
        return file.read(status.st_size)


def is_temporary(name: str, of: str) -> bool:
    """Return whether `name` is a temporary file that a killed `write_atomically` of the file `of` left behind.

    >>> is_temporary(".config.yaml.123.tmp", "config.yaml"), is_temporary("config.yaml", "config.yaml")
    (True, False)
    """
    return re.fullmatch(rf"\.{re.escape(of)}\.\d+\.tmp", name) is not None


def write_atomically(path: Path, data: bytes, *, parents: bool = True) -> None:
    """Write `data` to `path`; after a kill, `path` is either the old file or the new one.

    Args:
        path: The file. A link there is replaced, and not followed.
        data: Its content.
        parents: Create its directory if it is missing.

    Raises:
        ResourceError: If the disk is full or the directory missing; no temporary file remains then.
    """
    with translate_disk_errors(str(path)):
        _check_replaceable(path)
        # same directory: a rename must not cross disks; the whole name could be too long for a suffix
        temporary = path.with_name(f".{path.name[:60]}.{os.getpid()}.tmp")
        if parents:
            path.parent.mkdir(parents=True, exist_ok=True)
        temporary.unlink(missing_ok=True)  # of a killed process with the same id
        try:
            with temporary.open("xb") as file:  # "x": follows no link
                file.write(data)
                file.flush()
                os.fsync(file.fileno())  # otherwise a power cut may leave the new name on an empty file
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def _check_replaceable(path: Path) -> None:
    """Raise ResourceError if `path` is or links to anything but a file: root would replace even /dev/null."""
    try:
        mode = path.stat().st_mode
    except OSError:  # there is nothing, or it cannot be written either
        return
    if not stat.S_ISREG(mode):
        raise ResourceError(f"{path} cannot be written: it is {kind_of(mode)}, expected a file. Choose another path.")


def write_record(
    path: Path,
    record: T,
    adapter: TypeAdapter[T],
    *,
    indent: int | None = 1,
    parents: bool = True,
    checksum: bool = False,
) -> None:
    """Write a record as JSON, atomically.

    Args:
        path: The file.
        record: A value of the adapter's type. NaN and infinities are written as the tokens `NaN` and `Infinity`.
        adapter: pydantic's adapter of the type.
        indent: Spaces per level; None writes a single line, which is faster for long lists.
        parents: Create its directory if it is missing.
        checksum: Add a checksum to each outermost object; `read_record` compares it.
    """
    plain = adapter.dump_python(record, by_alias=True)
    text = json.dumps(_with_checksums(plain) if checksum else plain, indent=indent)
    write_atomically(path, (text + "\n").encode(), parents=parents)


def read_record(path: Path, adapter: TypeAdapter[T], *, remedy: str) -> T | None:
    """Read a record that `write_record` wrote.

    Args:
        path: The file.
        adapter: pydantic's adapter of the record's type.
        remedy: Sentence that ends the error message: how to fix or replace a damaged file.

    Returns:
        The record, or None if there is no file.

    Raises:
        RunError: If the file is damaged.
    """
    try:
        plain = _parse_json(read_bounded(path, MAX_RECORD))
        record = _validate(_without_checksums(plain), adapter)
        if _has_wrong_checksum(plain):
            raise ValueError("its checksum does not match its values")
        return record
    except FileNotFoundError:
        return None
    except RunError as exc:
        raise RunError(f"{exc} {remedy}") from exc
    except ValueError as exc:
        raise RunError(f"{path} is damaged ({exc}). {remedy}") from exc


def parse_record(text: str | bytes, adapter: TypeAdapter[T]) -> T:
    """Return the record that the JSON `text` describes. Raises ValueError with the first problem, on one line.

    >>> parse_record("[1, 2]", TypeAdapter(tuple[int, ...]))
    (1, 2)
    >>> parse_record('{"epochs": ["many"]}', TypeAdapter(dict[str, list[int]]))
    Traceback (most recent call last):
    ValueError: epochs.0: Input should be a valid integer, unable to parse string as an integer
    """
    return _validate(_parse_json(text), adapter)


def _parse_json(text: str | bytes) -> Any:
    try:
        return json.loads(text)  # pydantic's own parser rejects file names that are not UTF-8
    except RecursionError as exc:
        raise ValueError("it is nested too deeply") from exc


def _validate(value: Any, adapter: TypeAdapter[T]) -> T:
    try:
        return adapter.validate_python(value)
    except ValidationError as exc:
        first = exc.errors()[0]
        key = ".".join(map(str, first["loc"]))
        problem = first["msg"].removeprefix("Value error, ")
        raise ValueError(f"{key}: {problem}" if key else problem) from exc


MAX_ARCHIVE_BYTES = 2**32  # of all members of an archive, unpacked
MAX_RATIO = 200  # unpacked to packed; noise and weights hardly shrink, a zip bomb grows a thousand times


def check_archive(file: Path) -> list[str]:
    """Return the names of the members of a zip archive.

    Raises ValueError if it is not one, if it is a zip bomb, or if a member's path leads out of it.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, struct.error) as exc:
        raise ValueError(f"it is not a zip archive ({exc})") from exc
    size = sum(member.file_size for member in members)
    if size > min(MAX_ARCHIVE_BYTES, MAX_RATIO * file.stat().st_size + 1_000_000):
        raise ValueError(f"its members have {size:,} bytes when unpacked, far more than the archive")
    for member in members:
        if member.filename.startswith(("/", "\\")) or ".." in Path(member.filename).parts:
            raise ValueError(f"its member {member.filename!r} leads out of the archive")
    return [member.filename for member in members]


_RECORD_CHECKSUM = "checksum"  # key in an outermost object of a record


def _with_checksums(value: Any, name: str = "") -> Any:
    """Return a record with a checksum in each outermost object that is no collection of objects.

    >>> _with_checksums([{"epochs": 3}])
    [{'epochs': 3, 'checksum': '543da7abb83f0bf9'}]
    """
    if isinstance(value, list | tuple):
        return [_with_checksums(each) for each in value]
    if _is_collection(value):
        return {key: _with_checksums(each, key) for key, each in value.items()}
    return {**value, _RECORD_CHECKSUM: _checksum_of(value, name)} if isinstance(value, dict) else value


def _without_checksums(value: Any) -> Any:
    """Return a record without its checksums, which older records do not have."""
    if isinstance(value, list):
        return [_without_checksums(each) for each in value]
    if _is_collection(value):
        return {key: _without_checksums(each) for key, each in value.items()}
    return {k: v for k, v in value.items() if k != _RECORD_CHECKSUM} if isinstance(value, dict) else value


def _has_wrong_checksum(value: Any, name: str = "") -> bool:
    if isinstance(value, list):
        return any(_has_wrong_checksum(each) for each in value)
    if _is_collection(value):
        return any(_has_wrong_checksum(each, key) for key, each in value.items())
    if not isinstance(value, dict) or _RECORD_CHECKSUM not in value:
        return False
    return bool(_checksum_of(_without_checksums(value), name) != value[_RECORD_CHECKSUM])


def _is_collection(value: Any) -> bool:
    return isinstance(value, dict) and bool(value) and all(isinstance(each, dict) for each in value.values())


def _checksum_of(values: Any, name: str) -> str:
    return hashlib.sha256((name + json.dumps(values, sort_keys=True)).encode()).hexdigest()[:16]


_LENGTH = struct.Struct("<Q")
_ALIGNMENT = 8  # tensors start at a multiple of 8 bytes, for readers that map the file into memory
_CHECKSUM = "sha256"  # key in the header's metadata: of the tensors
_HEADER_CHECKSUM = "sha256_header"  # the same: of the header without this entry


def add_checksum(data: bytes) -> bytes:
    """Return the safetensors file `data` with the SHA-256 of its tensors, and that of its header, in the header."""
    header, tensors = _split_header(data)
    metadata = {**header.get("__metadata__", {}), _CHECKSUM: hashlib.sha256(tensors).hexdigest()}
    metadata[_HEADER_CHECKSUM] = _hash_header(header, metadata)
    text = json.dumps({**header, "__metadata__": metadata}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return _LENGTH.pack(len(text)) + text + tensors


def find_corruption(path: Path, *, follow: bool = False) -> str | None:
    """Return what is wrong with the safetensors file at `path`; None if its checksums match or it has none.

    `follow`: accept a link to a file.
    """
    try:
        header, tensors = _split_header(read_bounded(path, MAX_WEIGHTS, follow=follow))
    except RunError as exc:
        return str(exc).removeprefix(f"{path} ")
    except ValueError as exc:
        return f"not a safetensors file ({exc})"
    metadata = header.pop("__metadata__", {})
    try:
        size = max((int(entry["data_offsets"][1]) for entry in header.values()), default=0)
        checksum = metadata.get(_CHECKSUM, "")
    except (TypeError, ValueError, LookupError, AttributeError):
        return "not a safetensors file (its header does not contain the offsets of its tensors)"
    if size != len(tensors):
        return f"contains {len(tensors)} bytes of tensors, expected {size}"
    if _HEADER_CHECKSUM in metadata and metadata[_HEADER_CHECKSUM] != _hash_header(header, metadata):
        return "its checksum does not match its header"
    if checksum not in ("", hashlib.sha256(tensors).hexdigest()):
        return "its checksum does not match its tensors"
    return None


def _hash_header(header: Mapping[str, Any], metadata: Mapping[str, str]) -> str:
    plain = {key: value for key, value in metadata.items() if key != _HEADER_CHECKSUM}
    tensors = {key: value for key, value in header.items() if key != "__metadata__"}
    return hashlib.sha256(json.dumps([tensors, plain], sort_keys=True).encode()).hexdigest()


def read_metadata(data: bytes) -> dict[str, str]:
    """Return the metadata in the header of the safetensors file `data`. Raises ValueError if it is not one."""
    found: dict[str, str] = _split_header(data)[0].get("__metadata__", {})
    return found


def _split_header(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Return the header and the tensors of a safetensors file. Raises ValueError if `data` is not one."""
    if len(data) < _LENGTH.size:
        raise ValueError(f"it has {len(data)} bytes")
    end = _LENGTH.size + _LENGTH.unpack_from(data)[0]
    if end > len(data):
        raise ValueError("its header is truncated")
    try:
        header = json.loads(data[_LENGTH.size : end])
    except RecursionError as exc:
        raise ValueError("its header is nested too deeply") from exc
    if not isinstance(header, dict):
        raise ValueError("its header is not a JSON object")
    return header, data[end:]
