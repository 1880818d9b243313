"""Atomic writes, disk errors in plain words, and checksums inside safetensors files."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nasx.errors import ResourceError

_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})
_NO_PERMISSION = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


def disk_full(what: str) -> ResourceError:
    """The error for a full disk or an exhausted quota while writing `what`, e.g. "the journal runs/a/run.db"."""
    return ResourceError(
        f"no space left on the disk while writing {what}. Free some space, then go on with --resume: "
        "every trial that had finished is kept."
    )


@contextmanager
def translate_disk_errors(what: str) -> Iterator[None]:
    """Within the block, a disk that is full, or may not be written, raises ResourceError naming `what` was written."""
    try:
        yield
    except OSError as exc:
        if exc.errno in _NO_SPACE:
            raise disk_full(what) from exc
        if exc.errno in _NO_PERMISSION:
            raise ResourceError(
                f"{what} may not be written ({exc.strerror}). Check the permissions of its directory, or name another."
            ) from exc
        raise


def is_temporary(name: str, of: str) -> bool:
    """Whether a file was left by a process that was killed in `write_atomically` of the file named `of`.

    >>> is_temporary(".config.yaml.123.tmp", "config.yaml"), is_temporary("config.yaml", "config.yaml")
    (True, False)
    """
    return re.fullmatch(rf"\.{re.escape(of)}\.\d+\.tmp", name) is not None


def write_atomically(path: Path, data: bytes) -> None:
    """Write `data` to `path`, making its directory; whoever reads, or is killed, sees the old file or the new one.

    Raises ResourceError where the disk is full; nothing is left behind then.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")  # same directory: a rename must not cross disks
    with translate_disk_errors(str(path)):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())  # else a power cut may leave the new name on an empty file
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


_LENGTH = struct.Struct("<Q")
_ALIGNMENT = 8  # tensors begin at a multiple, for readers that map the file
_SEAL = "sha256"


def seal(data: bytes) -> bytes:
    """The safetensors file `data` with the hash of its tensors in the header."""
    header, tensors = _parts(data)
    metadata = {**header.get("__metadata__", {}), _SEAL: hashlib.sha256(tensors).hexdigest()}
    text = json.dumps({**header, "__metadata__": metadata}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return _LENGTH.pack(len(text)) + text + tensors


def damage(path: Path) -> str | None:
    """What is wrong with the safetensors file at `path`, in words; None where it is whole or bears no seal."""
    try:
        header, tensors = _parts(path.read_bytes())
    except ValueError as exc:
        return f"not a safetensors file ({exc})"
    metadata = header.pop("__metadata__", {})
    try:
        size = max((int(entry["data_offsets"][1]) for entry in header.values()), default=0)
        seal_found = metadata.get(_SEAL, "")
    except (TypeError, ValueError, LookupError, AttributeError):
        return "not a safetensors file (its header does not say where each tensor lies)"
    if size != len(tensors):
        return f"holds {len(tensors)} bytes of tensors, {size} expected"
    if seal_found not in ("", hashlib.sha256(tensors).hexdigest()):
        return "its tensors are not those that were written (their hash differs)"
    return None


def _parts(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Header and tensors of a safetensors file. Raises ValueError where it is none."""
    if len(data) < _LENGTH.size:
        raise ValueError(f"{len(data)} bytes long")
    end = _LENGTH.size + _LENGTH.unpack_from(data)[0]
    if end > len(data):
        raise ValueError("cut off within its header")
    try:
        header = json.loads(data[_LENGTH.size : end])
    except RecursionError as exc:
        raise ValueError("its header is nested without end") from exc
    if not isinstance(header, dict):
        raise ValueError("its header is no JSON object")
    return header, data[end:]
