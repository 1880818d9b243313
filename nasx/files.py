"""Writing files so that a kill leaves the old one or the new one, and what the disk refuses is told in one line."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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
