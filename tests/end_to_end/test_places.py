"""nasx without a home directory, without /tmp, within the limits of a container; the places by name."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.factories.black_box import LINES, nasx

USER = 12345  # no entry in the list of users
# Python may be installed in root's home directory: the user may read everything, but write only what is its own
CAPABILITIES = ("--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search")
LOCAL = (*(word for word in LINES if not word.startswith("execution=")), "execution=local", "execution.workers=2")
PATH = os.pathsep.join(filter(None, (str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", ""))))


def nasx_as(prefix, *arguments, cwd, **env):
    """Run nasx in an environment without anything of this user's."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": os.environ.get("PYTHONPATH") or PATH, **env}
    return subprocess.run(
        [*prefix, sys.executable, "-m", "nasx", *map(str, arguments)],
        cwd=cwd,
        env={**environment, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def works(*prefix):
    """Return whether a prefix of a command works on this machine."""
    try:
        return subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


@pytest.fixture
def user(tmp_path):
    """Prefix that runs a command as another user, who may write into the directory of the test."""
    prefix = ("setpriv", "--reuid", str(USER), "--regid", str(USER), "--clear-groups", *CAPABILITIES)
    if not works(*prefix):
        pytest.skip("needs root, to become another user")
    os.chown(tmp_path, USER, USER)
    return prefix


TREE = Path(__file__).parents[2]  # with the environment, in CI


def mounting(directory, options):
    """Return commands that mount an empty file system. A tree in it, open as descriptor 9, stays visible."""
    commands = [f"mount -t tmpfs none {directory}"]
    if TREE.is_relative_to(directory):
        commands += [f"mkdir -p {TREE}", f"mount --no-canonicalize --bind /proc/self/fd/9 {TREE}"]
    return " && ".join([*commands, f"mount -o remount,{options} {directory}"])


@pytest.fixture
def mount():
    """Return a prefix that runs a command with file systems mounted on some directories."""

    def prefix(*directories, options):
        mounts = " && ".join(["exec 9< " + str(TREE), *(mounting(Path(d), options) for d in directories)])
        found = ("unshare", "--mount", "sh", "-c", f'{mounts} && exec "$@"', "-")
        if not works(*found):
            pytest.skip("needs root, to mount")
        return found

    return prefix


def test_a_user_without_name_and_home_and_tmp_searches_with_workers(user, mount):
    prefix = mount("/tmp", options="ro")

    with tempfile.TemporaryDirectory(prefix="places-", dir="/var/tmp") as folder:  # that of the test may be below /tmp
        os.chown(folder, USER, USER)
        done = nasx_as((*prefix, *user), "search", *LOCAL, "--run-dir", Path(folder, "run"), cwd=folder)

    assert done.returncode == 0, done.stderr
    assert "trials: 4 complete" in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


def test_a_home_that_cannot_be_written_is_no_obstacle(user, tmp_path):
    done = nasx_as(user, "search", *LOCAL, "--run-dir", tmp_path / "run", cwd=tmp_path, HOME="/")

    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


def test_if_nothing_can_be_written_one_line_says_what_was_tried(mount):
    prefix = mount("/tmp", "/var/tmp", "/dev/shm", options="ro")

    done = nasx_as(prefix, "config", "list", cwd="/proc")

    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("nasx: no directory for temporary files: /tmp (Read-only file system), /var/tmp (")
    assert "/dev/shm (" in line and line.endswith("Set TMPDIR to a directory that can be written.")


def test_a_deleted_current_directory_is_one_line(tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    command = f'cd {gone} && rmdir {gone} && exec "$@"'

    done = nasx_as(("sh", "-c", command, "-"), "config", "list", cwd=tmp_path, HOME=str(tmp_path))

    assert done.returncode == 2
    assert done.stderr.startswith("nasx: the current directory cannot be read (No such file or directory): change to")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("words", [("explain",), ("explain", "--sample", "0"), ("debug",), ("export",), ("report",)])
def test_a_run_that_may_only_be_read_needs_another_place_for_its_pages(searched, monkeypatch, capsys, words):
    from nasx import places
    from nasx.runs.directory import kept_weights

    monkeypatch.setattr(places, "is_writable", lambda folder: not folder.is_relative_to(searched))
    arch_id = next(iter(kept_weights(searched)))[0]
    network = () if words == ("report",) else ("--arch-id", arch_id)

    assert nasx(*words, *network, "--run-dir", searched) == 2

    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"nasx: {searched}")
    assert last.endswith("cannot be written: name another place with --out.")


@contextmanager
def control_group(controller, **limits):
    """Create a control group of version 1 with limits; yields a prefix that runs a command in it."""
    group = Path("/sys/fs/cgroup", controller, f"nasx-test-{os.getpid()}")
    try:
        group.mkdir()
        for name, value in limits.items():
            (group / f"{controller}.{name}").write_text(value)
    except OSError:
        pytest.skip("needs root, to limit itself by control groups of version 1")
    try:
        yield ("sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "-")
    finally:
        group.rmdir()


@pytest.mark.parametrize(
    ("controller", "limits", "expected"),
    [
        ("cpu", {"cfs_quota_us": "50000"}, "1 trial at a time on the CPU, 1 core each"),
        ("memory", {"limit_in_bytes": "1000000000"}, "1 trial at a time on the CPU, 1 core each"),
    ],
)
def test_a_search_stays_within_the_limits_of_its_container(tmp_path, controller, limits, expected):
    with control_group(controller, **limits) as prefix:
        done = nasx_as(prefix, "search", *LOCAL[:-1], "--dry-run", cwd=tmp_path, HOME=str(tmp_path))

    assert done.returncode == 0, done.stderr
    assert expected in done.stdout


# --- the places by name


@pytest.fixture
def places(monkeypatch):
    """The module, with an environment of its own."""
    from nasx import places

    names = ("HOME", "TMPDIR", "XDG_RUNTIME_DIR", "LOGNAME", "USER", "LNAME", "USERNAME", *places.CACHES)
    for name in names:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setattr(tempfile, "tempdir", None)
    places._replacement.cache_clear()
    places.report_lost_cache.cache_clear()
    before = os.umask(0o022)
    yield places
    os.umask(before)
    places._replacement.cache_clear()
    places.report_lost_cache.cache_clear()


def test_what_works_is_not_changed(places, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    before = dict(os.environ)

    places.prepare()

    assert dict(os.environ) == before
    assert os.umask(0o022) == 0o022


@pytest.mark.parametrize("home", [None, "", "~", "relative/home"])
def test_without_a_home_libraries_find_another_one(places, monkeypatch, tmp_path, home, capsys):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    if home is not None:
        monkeypatch.setenv("HOME", home)
    else:
        monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home directory")))
    monkeypatch.setattr(places, "is_writable", lambda folder: folder.is_relative_to(tmp_path))

    places.prepare()

    folder = tmp_path / f"cache-of-nasx-{os.getuid()}"
    assert os.environ.get("XDG_CACHE_HOME") == f"{folder}/.cache" or os.environ["HOME"] == str(folder)
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_cache_that_may_be_lost_is_reported_once(places, monkeypatch, tmp_path, capsys):
    from nasx.data.download import cache_folder

    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("HOME", "/proc")

    found = [cache_folder(), cache_folder()]

    assert found == [tmp_path / f"cache-of-nasx-{os.getuid()}/.cache/nasx"] * 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("may be lost: set XDG_CACHE_HOME to a directory that is kept.")


def test_a_cache_directory_of_the_user_is_kept(places, monkeypatch, tmp_path, capsys):
    from nasx.data.download import cache_folder

    monkeypatch.setenv("HOME", "/proc")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "new" / "cache"))

    assert cache_folder() == tmp_path / "new" / "cache" / "nasx"
    assert not capsys.readouterr().err


@pytest.mark.parametrize("kind", ["a file", "a link", "a directory for all"])
def test_a_directory_that_others_may_have_made_is_not_used(places, monkeypatch, tmp_path, kind):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    planted = tmp_path / f"cache-of-nasx-{os.getuid()}"
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    if kind == "a file":
        planted.write_text("")
    elif kind == "a link":
        planted.symlink_to(tmp_path / "elsewhere")
    else:
        planted.mkdir()
        planted.chmod(0o777)

    found = places._replacement()

    assert found != planted and found.parent == tmp_path
    assert stat.S_IMODE(found.lstat().st_mode) == 0o700


def test_a_user_without_a_name_has_one(places, monkeypatch):
    import getpass
    import pwd

    monkeypatch.setattr(pwd, "getpwuid", lambda uid: {}[uid])

    places.prepare()

    assert getpass.getuser() == f"user{os.getuid()}"


def test_a_umask_cannot_take_own_files_away(places, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    os.umask(0o777)

    places.prepare()

    assert os.umask(0o022) == 0o077


def test_the_first_place_that_serves_is_taken(places, monkeypatch, tmp_path):
    good, small, long = tmp_path / "good", tmp_path / "small", tmp_path / ("long" * 20)
    for folder in (good, small, long):
        folder.mkdir()
    candidates = [tmp_path / "missing", tmp_path / "file", small, long, good]
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(places, "_places", lambda: candidates)
    monkeypatch.setattr(places, "free_bytes", lambda place: 99 * 10**6 if place == small else 10**9)
    monkeypatch.setattr(places, "SOCKET_PATH", len(str(long)))

    with places.temporary_folder("nasx-", tail=1) as folder:
        assert Path(folder).parent == good and Path(folder).is_dir()
    assert not Path(folder).exists()

    monkeypatch.setattr(places, "_places", lambda: candidates[:-1])
    with pytest.raises(places.ResourceError) as refused, places.temporary_folder("nasx-", tail=1):
        pass
    text = str(refused.value)
    for reason in ("missing (No such file or directory)", "file (Not a directory)", "small (only 99 MB are free)"):
        assert reason in text
    assert "its path is too long for sockets" in text
    assert text.endswith(
        f"Set TMPDIR to a directory that can be written, with 100 MB and a path of at most {len(str(long)) - 15} bytes."
    )


def test_the_order_of_places_begins_with_that_of_the_user(places, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert places._places() == [Path("/tmp"), Path("/var/tmp"), Path("/dev/shm"), tmp_path]

    monkeypatch.setenv("TMPDIR", "/mine")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1")
    assert places._places()[0] == Path("/mine")
    assert places._places()[4] == Path("/run/user/1")


def test_the_sockets_of_ray_are_as_long_as_expected():
    from ray._private import ray_constants

    from nasx.execution.ray import LONGEST_SOCKET

    name = LONGEST_SOCKET.split("/")[2]
    assert len(name) == len("session_") + len("2026-01-01_00-00-00_000000") + len("_4194304")  # the largest process id
    assert ray_constants.SESSION_LATEST == "session_latest"
    assert len("/ray//sockets/plasma_store") + len(name) == len(LONGEST_SOCKET)
