"""Cores and memory that this process may use: by its affinity, its control groups, Slurm and its own limits.

A container with half a core on a host of 64 sees all 64: the limit is a quota in the file system of control groups.
Version 1 has one hierarchy per resource, version 2 one for all; the limits of every parent group apply, too.
"""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

ROOT: Final = Path("/")
GROUPS: Final = PurePosixPath("/sys/fs/cgroup")  # usual place, for a system whose list of mounts is not readable
USUAL: Final[Mapping[str, tuple[str, ...]]] = {  # controller -> directories there
    "": (".", "unified"),
    "cpu": ("cpu", "cpu,cpuacct", "cpuacct,cpu"),
    "memory": ("memory",),
}
THREADS: Final = "OMP_NUM_THREADS"  # variable: threads of numpy and torch


@dataclass(frozen=True)
class Limit:
    """Amount of a resource that this process may use, and what sets it."""

    amount: float  # cores or bytes
    why: str  # e.g. "CPU quota"


def cores(root: Path = ROOT, environment: Mapping[str, str] = os.environ) -> Limit:
    """Return the number of cores of this process: the least of its affinity, its CPU quotas and its share by Slurm.

    Args:
        root: of the file system, to read the control groups.
        environment: with the variables of Slurm.
    """
    limits = [Limit(affinity(), "affinity")]
    limits += [Limit(quota, "CPU quota") for quota in _quotas(root)]
    for name in ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE"):
        # 2(x3) is Slurm's form for two on each of three nodes
        if count := _number(re.sub(r"\(x[0-9]+\)$", "", environment.get(name, ""))):
            limits.append(Limit(count, name))
    return min(limits, key=lambda limit: limit.amount)


def whole_cores(limit: Limit) -> int:
    """Return the number of processes that each get a core: at least 1.

    >>> [whole_cores(Limit(amount, "CPU quota")) for amount in (0.5, 1.5, 8)]
    [1, 1, 8]
    """
    return max(1, int(limit.amount))


def affinity() -> int:
    """Return the number of cores on which the system may run this process."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def processor(root: Path = ROOT) -> str:
    """Return the name of the processor, e.g. "AMD EPYC 7763 64-Core Processor"; "CPU" if it is not known."""
    try:
        text = (root / "proc/cpuinfo").read_text(errors="replace")
    except OSError:
        text = ""
    found = re.search(r"^model name\s*:\s*(\S.*)$", text, re.MULTILINE)
    return " ".join(found[1].split()) if found else platform.processor() or "CPU"


def limit_threads() -> None:
    """Let libraries start as many threads as this process has cores. They know its affinity, but not its quota.

    To be called before numpy and torch are imported. A number that the user has set stays.
    """
    if (limited := threads_by_quota()) is not None:
        os.environ.setdefault(THREADS, str(limited))


def threads_by_quota() -> int | None:
    """Return the number of cores if libraries would start more threads than that; else None."""
    found = whole_cores(cores())
    return found if found < affinity() else None


def memory(root: Path = ROOT, environment: Mapping[str, str] = os.environ) -> Limit:
    """Return the bytes of memory of this process: the least of the machine's, its control groups' and its own limit.

    Args:
        root: of the file system, to read the control groups.
        environment: with the variables of Slurm.
    """
    limits = [Limit(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), "memory")]
    limits += [Limit(amount, "memory limit") for amount in _memory_limits(root)]
    if (own := _address_space()) is not None:
        limits.append(Limit(own, "ulimit -v"))
    name = "SLURM_MEM_PER_NODE"  # in megabytes; 0: all of the node
    if megabytes := _number(environment.get(name, "")):
        limits.append(Limit(megabytes * 2**20, name))
    return min(limits, key=lambda limit: limit.amount)


def _address_space() -> int | None:
    """Return the limit of this process's address space; None if there is none."""
    try:
        import resource  # not on Windows
    except ImportError:
        return None
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    return soft if soft != resource.RLIM_INFINITY and soft > 0 else None


def _quotas(root: Path) -> Iterator[float]:
    """Yield the quotas of the control groups of this process, in cores."""
    for group in _groups(root, ""):
        quota, _, period = _read(group / "cpu.max").partition(" ")
        yield from _ratio(quota, period)
    for group in _groups(root, "cpu"):
        yield from _ratio(_read(group / "cpu.cfs_quota_us"), _read(group / "cpu.cfs_period_us"))


def _ratio(quota: str, period: str) -> Iterator[float]:
    """Yield quota / period, if there is a quota: not "max", -1 or anything else that is no positive number.

    >>> list(_ratio("50000", "100000")), list(_ratio("max", "100000")), list(_ratio("-1", "100000"))
    ([0.5], [], [])
    """
    if (a := _number(quota)) and (b := _number(period)):
        yield a / b


def _memory_limits(root: Path) -> Iterator[int]:
    """Yield the limits of the control groups of this process, in bytes."""
    files = [group / name for group in _groups(root, "") for name in ("memory.max", "memory.high")]
    files += [group / "memory.limit_in_bytes" for group in _groups(root, "memory")]
    yield from filter(None, map(_number, map(_read, files)))


def _groups(root: Path, controller: str) -> list[Path]:
    """Return the directory of this process's group and those of its parents, as far as they are visible.

    Args:
        root: of the file system.
        controller: "cpu" or "memory" in version 1; "" for version 2.
    """
    path = _own_group(root, controller)
    found: dict[Path, None] = {}
    for mounted, point in _mounts(root, controller):
        # within a container the list of mounts, or the path of the group, may be that of the host
        inner = PurePosixPath(path)
        inside = inner.relative_to(mounted) if inner.is_relative_to(mounted) else PurePosixPath()
        if ".." in inside.parts:
            inside = PurePosixPath()
        for step in (inside, *inside.parents):
            found[root / point.relative_to("/") / step] = None
    return list(found)


def _own_group(root: Path, controller: str) -> str:
    """Return the path of this process's group in the hierarchy of a controller."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controller in controllers.split(",") and path.startswith("/"):
            return path
    return "/"


def _mounts(root: Path, controller: str) -> list[tuple[str, PurePosixPath]]:
    """Return the mounts of a hierarchy: the group that is its root, and the directory."""
    found = [("/", GROUPS / name) for name in USUAL[controller]]
    for line in _read(root / "proc/self/mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        fields, kind = before.split(" "), after.split(" ")
        if len(fields) < 5 or len(kind) < 3 or not fields[4].startswith("/"):
            continue
        if (kind[0] == "cgroup2" and not controller) or (kind[0] == "cgroup" and controller in kind[2].split(",")):
            found.append((_plain(fields[3]), PurePosixPath(_plain(fields[4]))))
    return found


def _plain(path: str) -> str:
    r"""Return a path of the list of mounts without escapes.

    >>> _plain(r"/a\040b")
    '/a b'
    """
    change: Callable[[re.Match[str]], str] = lambda found: chr(int(found[1], 8))  # noqa: E731
    return re.sub(r"\\([0-7]{3})", change, path)


def _number(text: str) -> int | None:
    """Return a whole number of up to 19 digits; None for every other text.

    >>> [_number(text) for text in ("75000", "max", "-1", "")]
    [75000, None, None, None]
    """
    return int(text) if re.fullmatch(r"[0-9]{1,19}", text.strip()) else None


def _read(file: Path) -> str:
    """Return the text of a file of the system; "" if it is absent, unreadable or no text."""
    try:
        return file.read_text().strip()
    except (OSError, ValueError):
        return ""
