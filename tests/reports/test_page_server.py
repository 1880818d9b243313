import http.client
import threading
from contextlib import contextmanager

import pytest

from nasx.errors import RunError, SettingError
from nasx.reports.html.server import Report, Server


class Source:
    """A page whose version can be changed, and that counts how often it is made."""

    def __init__(self):
        self.version, self.made, self.error = 1, 0, None

    def page(self):
        return "<p>page"

    def data(self):
        if self.error:
            raise self.error
        self.made += 1
        return f"[{self.version}]"


@contextmanager
def serving(source):
    with Server(Report(source.page, source.data, lambda: source.version), 0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def ask(server, path, method="GET", **headers):
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    try:
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.read(), dict(answer.getheaders())
    finally:
        connection.close()


@pytest.fixture
def source():
    return Source()


@pytest.fixture
def server(source):
    with serving(source) as server:
        yield server


def test_the_page_and_its_data_are_served_on_the_loopback_address(server):
    assert server.server_address[0] == "127.0.0.1"
    assert ask(server, "/")[:2] == (200, b"<p>page")
    status, content, headers = ask(server, "/data.json")
    assert (status, content, headers["Content-Type"]) == (200, b"[1]", "application/json")


def test_who_has_the_data_already_is_told_so(server, source):
    tag = ask(server, "/data.json")[2]["ETag"]
    assert ask(server, "/data.json", If_None_Match=tag)[:2] == (304, b"")
    source.version = 2
    assert ask(server, "/data.json", If_None_Match=tag)[:2] == (200, b"[2]")


def test_data_are_made_once_as_long_as_nothing_changes(server, source):
    for _ in range(3):
        ask(server, "/data.json")
    assert source.made == 1


@pytest.mark.parametrize(
    "path", ["/../../etc/passwd", "/%2e%2e/etc/passwd", "//etc/passwd", "/run.db", "/data.json/.."]
)
def test_there_is_nothing_else_whatever_the_path(server, path):
    assert ask(server, path)[0] == 404


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "evil.example:80", ""])
def test_a_page_of_another_site_is_refused(server, host):
    assert ask(server, "/data.json", Host=host)[0] == 403


def test_localhost_is_this_machine_as_well(server):
    assert ask(server, "/", Host=f"localhost:{server.server_port}")[0] == 200


def test_head_gives_no_content(server):
    assert ask(server, "/", method="HEAD")[:2] == (200, b"")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_nothing_can_be_written(server, method):
    assert ask(server, "/", method=method)[0] == 501


def test_a_run_that_cannot_be_read_for_a_moment_does_not_end_the_server(server, source, capsys):
    source.error = RunError("the journal is damaged.")
    assert ask(server, "/data.json")[0] == 503
    source.error = None
    assert ask(server, "/data.json")[0] == 200


def test_a_port_that_is_taken_is_named(server, source):
    taken = server.server_port
    with pytest.raises(SettingError, match=rf"--port {taken} cannot be used \(.*\); 0 takes a free one."):
        Server(Report(source.page, source.data, int), taken)


@pytest.mark.parametrize("port", [-1, 70_000])
def test_a_number_that_is_no_port_is_refused(source, port):
    with pytest.raises(SettingError, match="--port"):
        Server(Report(source.page, source.data, int), port)
