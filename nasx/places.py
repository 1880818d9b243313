"""Places for files that need not be kept: temporary folders and caches, also for users without a home directory.

A container that is started for another user (`docker run --user`) has no home directory, and often little else that can
be written. Libraries look for the home directory when they are imported, so `prepare` comes first.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import socket
import stat
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

from nasx.errors import ResourceError, first_line

ROOM: Final = 100 * 10**6  # bytes that a search needs in its temporary folder, at least
SOCKET_PATH: Final = 107  # bytes of the longest path of a socket on Linux; 103 on macOS
# beginning of the name of the directory that replaces a home directory; not that of the temporary folders of a search,
# which are removed
REPLACEMENT: Final = "cache-of-nasx-"
# variable -> directory below the home directory that it replaces; known to matplotlib, torch, numba, Hugging Face, W&B
CACHES: Final = {"XDG_CACHE_HOME": ".cache", "XDG_CONFIG_HOME": ".config", "XDG_DATA_HOME": ".local/share"}


def prepare() -> None:
    """Make sure that libraries find the current directory, a home directory, caches and a temporary folder.

    Changes only what does not work: the variables of the environment that name those places.

    Raises ResourceError if the current directory has been deleted, or if no directory can be written.
    """
    try:
        os.getcwd()  # noqa: PTH109
    except OSError as error:
        raise ResourceError(
            f"the current directory cannot be read ({error.strerror}): change to another one, e.g. by `cd`."
        ) from error
    os.umask(_own_files_readable(os.umask(0o077)))
    _ensure_temporary_folder()
    _ensure_home()


def _own_files_readable(umask: int) -> int:
    """Return a umask that lets this user read and write the files that it creates.

    >>> oct(_own_files_readable(0o777)), oct(_own_files_readable(0o022))
    ('0o77', '0o22')
    """
    return umask & ~stat.S_IRWXU


def _ensure_temporary_folder() -> None:
    """Set TMPDIR if Python would find no temporary folder, or only the current directory."""
    with contextlib.suppress(FileNotFoundError):
        if Path(tempfile.gettempdir()) != Path.cwd():
            return
    place = _first_place(room=0, tail=0)
    os.environ["TMPDIR"] = tempfile.tempdir = str(place)


def _ensure_home() -> None:
    """Replace a home directory that is unknown, and caches that cannot be written, by directories that can."""
    with contextlib.suppress(OSError):
        if not _has_user_name():
            os.environ["LOGNAME"] = f"user{os.getuid()}"
        home = _home()
        if home is None:
            home = _replacement()
            os.environ["HOME"] = str(home)
        for variable, below in CACHES.items():
            if not is_writable(Path(os.environ.get(variable) or home / below)):
                os.environ[variable] = str(_replacement() / below)


def _has_user_name() -> bool:
    try:
        getpass.getuser()
    except (KeyError, OSError, ImportError):  # no variable, and no entry in the list of users
        return False
    return True


def _home() -> Path | None:
    """Return the home directory; None if there is none, or if it is not an absolute path."""
    try:
        home = Path.home()
    except RuntimeError:
        return None
    return home if home.is_absolute() else None


@cache
def _replacement() -> Path:
    """Return the directory of this user in the temporary folder. It may be lost when the container ends.

    Other users must not be able to write there: a directory of another owner or mode is replaced by a new one.
    """
    folder = Path(tempfile.gettempdir(), f"{REPLACEMENT}{os.getuid()}")
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077:
        return folder
    return Path(tempfile.mkdtemp(prefix=REPLACEMENT))


def is_writable(folder: Path) -> bool:
    """Return whether a directory can be written, or created. Permissions do not tell: root may lack them in /proc."""
    try:
        existing = next(f for f in (folder, *folder.parents) if f.exists())
        with tempfile.TemporaryFile(dir=existing):
            return True
    except (OSError, StopIteration):
        return False


def check_output(place: Path) -> None:
    """Raise ResourceError if a file or directory cannot be written, before the work that ends there."""
    if not is_writable(place if place.is_dir() else place.parent):
        raise ResourceError(f"{place} cannot be written: name another place with --out.")


@cache  # once per process
def report_lost_cache() -> None:
    """Print a line if the cache directory replaces one that cannot be written."""
    folder = os.environ.get("XDG_CACHE_HOME", "")
    if REPLACEMENT in folder:
        print(
            f"The cache is in {folder} and may be lost: set XDG_CACHE_HOME to a directory that is kept.",
            file=sys.stderr,
        )


@contextlib.contextmanager
def temporary_folder(prefix: str, *, tail: int = 0) -> Iterator[str]:
    """Create a temporary directory in the first place that serves, and remove it after the block.

    Processes that are being killed may still write there while it is removed.

    Args:
        prefix: of its name.
        tail: longest path of a socket in it, in bytes, with the leading slash; 0: it holds no sockets.

    Raises:
        ResourceError: if no place is writable, has `ROOM` and a path that is short enough.
    """
    folder = _new_folder(prefix, tail)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _new_folder(prefix: str, tail: int) -> str:
    name = len(prefix) + 8 + 1  # tempfile adds eight letters
    return tempfile.mkdtemp(prefix=prefix, dir=_first_place(room=ROOM, tail=tail and tail + name))


def _first_place(*, room: int, tail: int) -> Path:
    """Return the first directory that serves; arguments as for `_problem`. Raises ResourceError if there is none."""
    problems = []
    for place in _places():
        if (problem := _problem(place, room=room, tail=tail)) is None:
            return place
        problems.append(f"{place} ({problem})")
    needs = [f"{room / 1e6:.0f} MB"] * bool(room) + [f"a path of at most {SOCKET_PATH - tail} bytes"] * bool(tail)
    raise ResourceError(
        f"no directory for temporary files: {', '.join(problems)}. Set TMPDIR to a directory that can be written"
        f"{', with ' if needs else ''}{' and '.join(needs)}."
    )


def _places() -> list[Path]:
    """Return the directories that are tried, the best first."""
    named = [os.environ.get(name, "") for name in ("TMPDIR", "XDG_RUNTIME_DIR")]
    candidates = [named[0], "/tmp", "/var/tmp", "/dev/shm", named[1], str(Path.cwd())]
    return list(dict.fromkeys(Path(place).absolute() for place in candidates if place))


def _problem(place: Path, *, room: int, tail: int) -> str | None:
    """Return why a directory cannot be used; None if it can.

    Args:
        place: the directory.
        room: bytes that must be free.
        tail: longest path of a socket below it, in bytes, with the leading slash; 0: there are no sockets.
    """
    if tail and len(os.fsencode(place)) + tail > SOCKET_PATH:
        return "its path is too long for sockets"
    try:
        with tempfile.TemporaryDirectory(prefix="nasx-try-", dir=place) as folder:
            if (free := free_bytes(place)) < room:
                return f"only {free / 1e6:.0f} MB are free"
            Path(folder, "file").write_bytes(b"written")  # a full disk may have room for directories only
            if tail:
                with socket.socket(socket.AF_UNIX) as server:
                    server.bind(os.path.join(folder, "s"))  # noqa: PTH118 - not every file system has sockets
    except OSError as error:
        return error.strerror or first_line(error)
    return None


def free_bytes(place: Path | str) -> int:
    """Return the bytes that this user may still write into a directory; 0 if it does not exist."""
    try:
        return shutil.disk_usage(place).free
    except OSError:
        return 0
