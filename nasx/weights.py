"""Seals on weight files: a safetensors file that carries a hash of its tensors, so that damage can be told.

The format: 8 bytes with the header's length, little-endian; the header, JSON, padded with spaces; the tensors' bytes.
The hash goes into the header's `__metadata__`, which every reader of safetensors accepts.
Source: the format's description, https://github.com/huggingface/safetensors#format.
"""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

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
