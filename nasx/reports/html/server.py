"""Serve a report while its search runs: on this machine only, read-only."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock
from typing import TYPE_CHECKING, Final

from nasx.errors import NasxError, SettingError

if TYPE_CHECKING:
    pass

HOST: Final = "127.0.0.1"
REST: Final = 5.0  # times as long as the data took to make, before they are made anew: the page asks by itself


class Report:
    """A page and its data, made anew where `version` says that something has changed."""

    def __init__(self, page: Callable[[], str], data: Callable[[], str], version: Callable[[], object]) -> None:
        """`page` and `data` are costly; `version`, cheap, is equal as long as both would stay as they are."""
        self._makers = {"/": (page, "text/html; charset=utf-8"), "/data.json": (data, "application/json")}
        self._version = version
        self._made: dict[str, tuple[object, bytes, float]] = {}  # path -> version, content, when it may be made again
        self._lock = Lock()

    def content(self, path: str) -> tuple[bytes, str] | None:
        """What lies at a path and its media type; None: nothing. Raises NasxError where the run cannot be read."""
        if path not in self._makers:
            return None
        make, media_type = self._makers[path]
        with self._lock:
            version = self._version()
            made = self._made.get(path)
            if made is None or (made[0] != version and time.monotonic() >= made[2]):
                started = time.monotonic()
                content = make().encode()
                ended = time.monotonic()
                rest = REST * (ended - started) if path != "/" else 0.0
                made = self._made[path] = (version, content, ended + rest)
            return made[1], media_type


class Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD from the server's report."""

    server: Server
    server_version = "nasx"
    sys_version = ""

    def do_GET(self) -> None:
        if self.headers.get("Host") not in self.server.hosts:  # another site's page in the user's own browser
            self.send_error(HTTPStatus.FORBIDDEN, "This report answers to its own address alone")
            return
        try:
            found = self.server.report.content(self.path.partition("?")[0])
        except NasxError as error:
            self.log_error("%s", error)
            self.send_error(HTTPStatus.SERVICE_UNAVAILABLE, "The run cannot be read")
            return
        if found is None:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        content, media_type = found
        tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
        is_known = self.headers.get("If-None-Match") == tag
        self.send_response(HTTPStatus.NOT_MODIFIED if is_known else HTTPStatus.OK)
        self.send_header("ETag", tag)
        self.send_header("Cache-Control", "no-cache")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("X-Frame-Options", "DENY")
        if is_known:
            self.end_headers()
            return
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    do_HEAD = do_GET  # noqa: N815

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Nothing: the page asks every few seconds."""


class Server(ThreadingHTTPServer):
    """Serves a report on the loopback address."""

    daemon_threads = True

    def __init__(self, report: Report, port: int) -> None:
        """`port`: 0 takes a free one. Raises SettingError where the port is taken or may not be used."""
        try:
            super().__init__((HOST, port), Handler)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise SettingError("--port", f"{port} cannot be used ({reason}); 0 takes a free one.") from error
        self.report = report
        self.hosts = {f"{name}:{self.server_port}" for name in (HOST, "localhost")}
        if self.server_port == 80:
            self.hosts |= {HOST, "localhost"}

    @property
    def address(self) -> str:
        return f"http://{HOST}:{self.server_port}/"

    def handle_error(self, request: object, client_address: object) -> None:
        """A reader who went away is no error; anything else is told as http.server does."""
        import sys

        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]
