"""Writing files so that a kill leaves the old one or the new one, and a full disk is told in one line."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nasx.errors import ResourceError

_NO_SPACE = frozenset({errno.ENOSPC, errno.EDQUOT})


def disk_full(what: str) -> ResourceError:
    """The error for a full disk or an exhausted quota while writing `what`, e.g. "the journal runs/a/run.db"."""
    return ResourceError(
        f"no space left on the disk while writing {what}. Free some space, then go on with --resume: "
        "every trial that had finished is kept."
    )


@contextmanager
def translate_disk_errors(what: str) -> Iterator[None]:
    """Within the block, a full disk or an exhausted quota raises ResourceError naming `what` was written."""
    try:
        yield
    except OSError as exc:
        if exc.errno in _NO_SPACE:
            raise disk_full(what) from exc
        raise


def write_atomically(path: Path, data: bytes) -> None:
    """Write `data` to `path`, making its directory; whoever reads, or is killed, sees the old file or the new one.

    Raises ResourceError where the disk is full; nothing is left behind then.
    """
    with translate_disk_errors(str(path)):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())  # else a power cut may leave the new name on an empty file
            temporary.chmod(0o666 & ~_umask())  # mkstemp gives 0600; a run is to be read by colleagues
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
