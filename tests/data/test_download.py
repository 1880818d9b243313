"""Downloads from local servers."""

from __future__ import annotations

import hashlib
import io
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from nasx.data.download import PUBLISHED, PublishedDataset, RemoteFile, cache_folder, fetch_published
from nasx.errors import DataError, ResourceError

CONTENT = bytes(range(256)) * 2000  # 512 kB
CHUNK = 1 << 16  # whole chunks are kept of an interrupted response
HASH = f"md5:{hashlib.md5(CONTENT).hexdigest()}"


class Server(ThreadingHTTPServer):
    """Server of `content` that records the requests."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = CONTENT
        self.status = 200
        self.knows_ranges = True
        self.cut_after: list[int] = []  # bytes of each response before the connection breaks
        self.ranges: list[str | None] = []  # Range header of each request

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/file"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, asked = self.server, self.headers.get("Range")
        server.ranges.append(asked)
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and server.knows_ranges else 0
        if server.status != 200:
            self.send_error(server.status)
            return
        if start >= len(server.content) > 0:
            self.send_error(416)
            return
        body = server.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        cut = server.cut_after.pop(0) if server.cut_after else len(body)
        self.wfile.write(body[:cut])
        self.close_connection = True

    def log_message(self, *_arguments) -> None:
        pass


@pytest.fixture(autouse=True)
def direct(monkeypatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield running
    running.shutdown()
    running.server_close()
    thread.join()


def publication(*urls: str, known_hash: str = HASH) -> PublishedDataset:
    return PublishedDataset("published", (RemoteFile("file", known_hash, urls),))


def test_a_file_is_fetched_into_its_folder(server, tmp_path):
    folder = fetch_published(publication(server.url), tmp_path / "data")
    assert folder == tmp_path / "data/published"
    assert [path.name for path in folder.iterdir()] == ["file"]
    assert (folder / "file").read_bytes() == CONTENT


def test_an_intact_file_is_not_downloaded_again(server, tmp_path):
    for _ in range(2):
        fetch_published(publication(server.url), tmp_path)
    assert len(server.ranges) == 1


def test_a_damaged_file_is_fetched_again(server, tmp_path):
    (tmp_path / "published").mkdir()
    (tmp_path / "published/file").write_bytes(CONTENT[:-1])
    fetch_published(publication(server.url), tmp_path)
    assert (tmp_path / "published/file").read_bytes() == CONTENT


def test_progress_is_reported_until_the_end(server, tmp_path):
    steps: list[tuple[str, int, int | None]] = []
    fetch_published(publication(server.url), tmp_path, progress=lambda *step: steps.append(step))
    assert {(name, total) for name, _, total in steps} == {("file", len(CONTENT))}
    done = [step[1] for step in steps]
    assert done == sorted(done)
    assert done[-1] == len(CONTENT)


def test_a_download_cut_off_is_resumed_where_it_stopped(server, tmp_path):
    server.cut_after = [2 * CHUNK, CHUNK]
    fetch_published(publication(server.url), tmp_path)
    assert server.ranges == [None, f"bytes={2 * CHUNK}-", f"bytes={3 * CHUNK}-"]
    assert (tmp_path / "published/file").read_bytes() == CONTENT


def test_a_download_cut_off_for_good_is_resumed_by_the_next_fetch(server, tmp_path):
    server.cut_after = [2 * CHUNK, 0]
    with pytest.raises(DataError, match=r"cannot be reached, or the connection was lost: run again to resume"):
        fetch_published(publication(server.url), tmp_path)
    assert (tmp_path / "published/file.part").stat().st_size == 2 * CHUNK
    fetch_published(publication(server.url), tmp_path)
    assert server.ranges[-1] == f"bytes={2 * CHUNK}-"
    assert (tmp_path / "published/file").read_bytes() == CONTENT


def test_a_server_without_range_requests_sends_the_whole_file(server, tmp_path):
    server.knows_ranges = False
    server.cut_after = [100_000]
    fetch_published(publication(server.url), tmp_path)
    assert (tmp_path / "published/file").read_bytes() == CONTENT


def test_a_part_that_is_complete_already_is_taken(server, tmp_path):
    (tmp_path / "published").mkdir()
    (tmp_path / "published/file.part").write_bytes(CONTENT)
    fetch_published(publication(server.url), tmp_path)
    assert (tmp_path / "published/file").read_bytes() == CONTENT


def test_a_file_with_another_checksum_is_refused_and_not_kept(server, tmp_path):
    server.content = b"something else"
    with pytest.raises(DataError, match=rf"has another file than the published one \(its checksum is not {HASH}\)"):
        fetch_published(publication(server.url), tmp_path)
    assert list((tmp_path / "published").iterdir()) == []


def test_a_part_of_something_else_does_not_spoil_the_fetch_after_next(server, tmp_path):
    (tmp_path / "published").mkdir()
    (tmp_path / "published/file.part").write_bytes(b"something else")
    with pytest.raises(DataError, match="has another file"):
        fetch_published(publication(server.url), tmp_path)
    fetch_published(publication(server.url), tmp_path)
    assert (tmp_path / "published/file").read_bytes() == CONTENT


@pytest.mark.parametrize(("status", "words"), [(404, "404 Not Found"), (403, "403 Forbidden"), (503, "503 Service")])
def test_a_refusal_is_reported_with_its_status(server, status, words, tmp_path):
    server.status = status
    with pytest.raises(DataError, match=rf"^file cannot be downloaded: http://127.* returned {words}") as caught:
        fetch_published(publication(server.url), tmp_path)
    assert str(caught.value).endswith(f"Or copy the file into {tmp_path / 'published'}.")
    assert "\n" not in str(caught.value)


def closed_port() -> str:
    server = Server()
    server.server_close()
    return server.url


def test_no_network_is_reported(tmp_path):
    with pytest.raises(DataError, match=r"http://127\.0\.0\.1:\d+/file cannot be reached") as caught:
        fetch_published(publication(closed_port()), tmp_path)
    assert "\n" not in str(caught.value)


def test_the_next_mirror_is_tried_if_one_fails(server, tmp_path):
    fetch_published(publication(closed_port(), server.url), tmp_path)
    assert (tmp_path / "published/file").read_bytes() == CONTENT


def test_every_mirror_that_failed_is_reported(server, tmp_path):
    server.status = 404
    with pytest.raises(DataError, match=r"cannot be reached.*; http://127.* returned 404 Not Found\."):
        fetch_published(publication(closed_port(), server.url), tmp_path)


def test_a_folder_that_cannot_be_written_is_reported(server, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResourceError, match=r"file cannot store the files \((Not a directory|File exists)\)\."):
        fetch_published(publication(server.url), tmp_path / "file")


# --- archives -------------------------------------------------------------------------------------------------------


def archive(*members: tuple[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def archived(server: Server, content: bytes) -> PublishedDataset:
    server.content = content
    file = RemoteFile("a.tar.gz", f"md5:{hashlib.md5(content).hexdigest()}", (server.url,))
    return PublishedDataset("published", (file,), unpack=True)


def test_an_archive_is_unpacked_once(server, tmp_path):
    published = archived(server, archive(("published/a", b"1"), ("published/b", b"2")))
    for _ in range(2):
        folder = fetch_published(published, tmp_path)
        assert sorted(path.name for path in folder.iterdir()) == ["a", "b"]
    assert len(server.ranges) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no archive", r"a\.tar\.gz cannot be unpacked \(.+\)\. Delete it and download it again\."),
        (archive(("other/a", b"1")), r"a\.tar\.gz does not contain the folder published\."),
        (archive(("published/a", b"1"), ("../outside", b"1")), r"a\.tar\.gz cannot be unpacked"),
    ],
    ids=["no archive", "another folder", "a way out"],  # explicit: an archive contains its creation time
)
def test_a_bad_archive_is_reported_and_leaves_no_files(content, message, server, tmp_path):
    with pytest.raises(DataError, match=message):
        fetch_published(archived(server, content), tmp_path / "root")
    assert [path.name for path in (tmp_path / "root").iterdir()] == ["a.tar.gz"]
    assert not (tmp_path / "outside").exists()


# --- what is published ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_datasets_have_a_checksum_and_a_url_for_every_file(name):
    for file in PUBLISHED[name].files:
        kind, _, digits = file.known_hash.partition(":")
        assert (kind, len(bytes.fromhex(digits))) == ("md5", 16)
        assert all(url.endswith(file.name) for url in file.urls)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_datasets_are_in_the_folder_of_their_reader(name):
    from nasx.data import cifar, mnist

    readers = {reader.name: reader for reader in (cifar.CIFAR10, cifar.CIFAR100, mnist.MNIST, mnist.FashionMNIST)}
    assert PUBLISHED[name].folder == readers[name].folder


def test_the_cache_is_in_the_users_cache_directory(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder().name == "nasx"
