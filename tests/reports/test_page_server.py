import http.client
import threading
from contextlib import contextmanager

import pytest

from nasx.errors import RunError, SettingError
from nasx.reports.html.server import Report, Server


class Source:
    """Source of a report with a version that can change; counts how often the data are built."""

    def __init__(self):
        self.version, self.builds, self.error = 1, 0, None

    def page(self):
        return "<p>page"

    def data(self):
        if self.error:
            raise self.error
        self.builds += 1
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


def test_known_data_are_answered_with_not_modified(server, source):
    tag = ask(server, "/data.json")[2]["ETag"]
    assert ask(server, "/data.json", If_None_Match=tag)[:2] == (304, b"")
    source.version = 2
    assert ask(server, "/data.json", If_None_Match=tag)[:2] == (200, b"[2]")


def test_data_are_built_once_while_nothing_changes(server, source):
    for _ in range(3):
        ask(server, "/data.json")
    assert source.builds == 1


@pytest.mark.parametrize(
    "path", ["/../../etc/passwd", "/%2e%2e/etc/passwd", "//etc/passwd", "/run.db", "/data.json/.."]
)
def test_other_paths_are_not_found(server, path):
    assert ask(server, path)[0] == 404


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "evil.example:80", ""])
def test_requests_from_another_site_are_refused(server, host):
    assert ask(server, "/data.json", Host=host)[0] == 403


def test_localhost_is_accepted(server):
    assert ask(server, "/", Host=f"localhost:{server.server_port}")[0] == 200


def test_head_returns_no_content(server):
    assert ask(server, "/", method="HEAD")[:2] == (200, b"")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_nothing_can_be_written(server, method):
    assert ask(server, "/", method=method)[0] == 501


def test_an_unreadable_run_does_not_stop_the_server(server, source, capsys):
    source.error = RunError("the journal is damaged.")
    assert ask(server, "/data.json")[0] == 503
    source.error = None
    assert ask(server, "/data.json")[0] == 200


def test_a_port_in_use_is_named(server, source):
    taken = server.server_port
    with pytest.raises(SettingError, match=rf"--port {taken} cannot be used \(.*\); 0 selects a free port."):
        Server(Report(source.page, source.data, int), taken)


@pytest.mark.parametrize("port", [-1, 70_000])
def test_an_invalid_port_is_refused(source, port):
    with pytest.raises(SettingError, match="--port"):
        Server(Report(source.page, source.data, int), port)
