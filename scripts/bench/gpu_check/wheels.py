"""Download the wheels that nasx needs on a machine without a network, for the version of its Python.

    python -m scripts.bench.gpu_check.wheels wheels --python 3.12 [--has torch pytorch-lightning ...] [--slim]

Then, on that machine: `pip install --no-index --no-deps wheels/*.whl`, or with --target DIR and PYTHONPATH=DIR. --slim
removes Java and the pages of the dashboard from Ray's wheel, since a search does not use them: from 76 to 32 MiB.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HAS = ("torch", "pytorch-lightning")  # with their dependencies
UNUSED = ("ray/jars/", "ray/dashboard/client/")
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")


def needed(package: str, python: str, extras: Iterable[str] = ()) -> Iterator[str]:
    """Yield the canonical names of all dependencies of an installed package on Linux; names may repeat.

    Args:
        package: name.
        python: version, e.g. "3.12".
        extras: of the package.
    """
    seen: set[tuple[str, frozenset[str]]] = set()
    waiting = [(package, frozenset(extras))]
    while waiting:
        name, chosen = waiting.pop()
        if (name, chosen) in seen:
            continue
        seen.add((name, chosen))
        try:
            lines = requires(name) or []
        except PackageNotFoundError:  # for another platform or Python
            continue
        for requirement in map(Requirement, lines):
            machine = {"python_version": python, "python_full_version": f"{python}.0", "sys_platform": "linux"}
            markers = ({**machine, "extra": extra} for extra in chosen or ("",))
            if requirement.marker is None or any(requirement.marker.evaluate(marker) for marker in markers):
                inner = canonicalize_name(requirement.name)
                yield inner
                waiting.append((inner, frozenset(requirement.extras)))


def download(name: str, target: Path, python: str) -> None:
    """Download the wheel of a package in the version that is installed here; build it if there is none.

    Args:
        name: of the package.
        target: directory.
        python: version, e.g. "3.12".
    """
    pinned = f"{name}=={version(name).partition('+')[0]}"
    fetch = ["download", "--only-binary=:all:", "--python-version", python, "--implementation", "cp"]
    fetch += [word for platform in PLATFORMS for word in ("--platform", platform)]
    for command in (fetch, ["wheel"]):
        place = ["-d" if command is fetch else "-w", str(target)]
        done = subprocess.run(
            [sys.executable, "-m", "pip", *command, "-q", "--no-deps", *place, pinned], capture_output=True, text=True
        )
        if done.returncode == 0:
            return
    raise SystemExit(f"{pinned} has no wheel for Python {python}: {done.stderr.strip().splitlines()[-1]}")


def slim(wheel: Path) -> None:
    """Rewrite a wheel without the files that a search does not use."""
    with tempfile.TemporaryDirectory() as folder:
        smaller = Path(folder, wheel.name)
        with zipfile.ZipFile(wheel) as whole, zipfile.ZipFile(smaller, "w", zipfile.ZIP_LZMA) as part:
            for entry in whole.infolist():
                if entry.filename.startswith(UNUSED):
                    continue
                content = whole.read(entry)
                if entry.filename.endswith(".dist-info/RECORD"):
                    kept = [line for line in content.decode().splitlines() if not line.startswith(UNUSED)]
                    content = "\n".join([*kept, ""]).encode()
                part.writestr(entry, content, zipfile.ZIP_LZMA)
        wheel.write_bytes(smaller.read_bytes())


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m scripts.bench.gpu_check.wheels")
    parser.add_argument("target", type=Path, help="directory of the wheels")
    parser.add_argument("--python", default="3.12", help="version of the other machine's Python (default: 3.12)")
    parser.add_argument("--has", nargs="*", default=list(HAS), help="installed packages, with their dependencies")
    parser.add_argument("--slim", action="store_true", help="remove parts of Ray that a search does not use")
    chosen = parser.parse_args()
    if not re.fullmatch(r"3\.\d+", chosen.python):
        parser.error(f"--python must be a version such as 3.12, got {chosen.python}")
    there = {canonicalize_name(name) for name in chosen.has}
    there |= {name for has in chosen.has for name in needed(has, chosen.python)}
    chosen.target.mkdir(parents=True, exist_ok=True)
    names = sorted(set(needed("nasx", chosen.python)) - there)
    for number, name in enumerate(names, start=1):
        print(f"{number}/{len(names)} {name}", file=sys.stderr, flush=True)
        download(name, chosen.target, chosen.python)
    if chosen.slim:
        for wheel in chosen.target.glob("ray-*.whl"):
            slim(wheel)
    size = sum(wheel.stat().st_size for wheel in chosen.target.glob("*.whl")) / 2**20
    print(f"{len(names)} wheels, {size:.0f} MiB, in {chosen.target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
