"""Atomic writes, and disk errors in one line."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from nasx.errors import ResourceError, RunError
from nasx.files import read_record, translate_disk_errors, write_atomically, write_record


def test_a_file_is_written_with_its_directory_and_replaced_atomically(tmp_path: Path) -> None:
    path = tmp_path / "archs" / "a" / "network.json"
    write_atomically(path, b"old")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert [p.name for p in path.parent.iterdir()] == ["network.json"]


def test_a_written_file_has_the_permissions_of_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_atomically(tmp_path / "a", b"")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_leaves_only_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    path = tmp_path / "front.csv"
    write_atomically(path, b"old")

    def full(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ResourceError, match=r"no space left on the disk while writing .*front\.csv\. Free some space"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["front.csv"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs the device that is always full")
def test_a_full_device_is_reported() -> None:
    with pytest.raises(ResourceError, match="while writing the log"), translate_disk_errors("the log"):
        Path("/dev/full").write_text("x")


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EROFS])
def test_a_directory_without_write_permission_is_reported(number: int) -> None:
    with (
        pytest.raises(ResourceError, match=r"runs/a cannot be written \(.*\)\. Check the permissions of its directory"),
        translate_disk_errors("runs/a"),
    ):
        raise OSError(number, os.strerror(number))


def test_other_errors_are_not_translated() -> None:
    with pytest.raises(ConnectionResetError), translate_disk_errors("the log"):
        raise ConnectionResetError(errno.ECONNRESET, "reset")


def test_a_path_that_cannot_be_a_file_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "x", tmp_path / ("x" * 300), Path("/proc/nowhere/x")):
        with pytest.raises(ResourceError, match=r"cannot be written \(.+\)\. Choose another path\."):
            write_atomically(path, b"")


@pytest.mark.parametrize("kind", ["a named pipe", "a device", "a directory"])
def test_what_is_no_file_is_never_replaced(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x"
    if kind == "a device":
        path.symlink_to("/dev/null")
    else:
        os.mkfifo(path) if kind == "a named pipe" else path.mkdir()
    before = path.lstat()

    with pytest.raises(ResourceError, match=rf"x cannot be written: it is {kind}, expected a file\."):
        write_atomically(path, b"data")

    assert path.lstat() == before
    assert list(tmp_path.iterdir()) == [path]


def test_the_longest_name_that_the_system_accepts_can_be_written(tmp_path: Path) -> None:
    write_atomically(tmp_path / ("x" * 255), b"data")

    assert (tmp_path / ("x" * 255)).read_bytes() == b"data"


RECORDS = TypeAdapter(list[dict[str, int]])


def test_every_entry_of_a_list_of_records_has_a_checksum(tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    write_record(path, [{"epochs": 3}, {"epochs": 5}, {}], RECORDS, checksum=True)
    assert path.read_text().count('"checksum"') == 3
    assert read_record(path, RECORDS, remedy="Remove it.") == [{"epochs": 3}, {"epochs": 5}, {}]

    path.write_text(path.read_text().replace('"epochs": 5', '"epochs": 6'))
    with pytest.raises(RunError, match=r"is damaged \(its checksum does not match its values\)\. Remove it\.$"):
        read_record(path, RECORDS, remedy="Remove it.")


def test_every_entry_of_a_mapping_of_records_has_a_checksum(tmp_path: Path) -> None:
    path, adapter = tmp_path / "mapping.json", TypeAdapter(dict[str, dict[str, int]])
    write_record(path, {"a": {"epochs": 3}, "b": {"epochs": 5}}, adapter, checksum=True)
    path.write_text(path.read_text().replace('"epochs": 5', '"epochs": 6'))
    with pytest.raises(RunError, match=r"its checksum does not match its values"):
        read_record(path, adapter, remedy="Remove it.")
