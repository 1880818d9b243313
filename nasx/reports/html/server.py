"""Serve a report while its search runs: only to this machine, read-only."""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock
from typing import Final

from nasx.errors import NasxError, SettingError

HOST: Final = "127.0.0.1"
REBUILD_PAUSE: Final = 5.0  # after the data were built, in multiples of the time it took: the page polls every 3 s


class Report:
    """Page and data of a report, cached until `version` changes."""

    def __init__(self, page: Callable[[], str], data: Callable[[], str], version: Callable[[], object]) -> None:
        """Store the functions that build the report.

        Args:
            page: returns the HTML page; expensive.
            data: returns the JSON data; expensive.
            version: returns a value that changes whenever the page or the data do; cheap.
        """
        self._builders = {"/": (page, "text/html; charset=utf-8"), "/data.json": (data, "application/json")}
        self._version = version
        self._cache: dict[str, tuple[object, bytes, float]] = {}  # path -> version, content, earliest time to rebuild
        self._lock = Lock()

    def content(self, path: str) -> tuple[bytes, str] | None:
        """Return the content of a path and its media type, or None. Raises NasxError if the run is unreadable."""
        if path not in self._builders:
            return None
        build, media_type = self._builders[path]
        with self._lock:
            version = self._version()
            cached = self._cache.get(path)
            if cached is None or (cached[0] != version and time.monotonic() >= cached[2]):
                started = time.monotonic()
                content = build().encode()
                ended = time.monotonic()
                pause = REBUILD_PAUSE * (ended - started) if path != "/" else 0.0
                cached = self._cache[path] = (version, content, ended + pause)
            return cached[1], media_type


class Handler(BaseHTTPRequestHandler):
    """Handler of GET and HEAD requests for the server's report."""

    server: Server
    server_version = "nasx"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer with the page or its data; 304 if the browser has the same data already."""
        if self.headers.get("Host") not in self.server.hosts:  # DNS rebinding by another site
            self.send_error(HTTPStatus.FORBIDDEN, "The report is only served at its own address")
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
        """Log nothing: the page polls every few seconds."""


class Server(ThreadingHTTPServer):
    """HTTP server of a report, on the loopback address."""

    daemon_threads = True

    def __init__(self, report: Report, port: int) -> None:
        """Bind to `port`; 0: any free port. Raises SettingError if the port is in use or not allowed."""
        try:
            super().__init__((HOST, port), Handler)
        except (OSError, OverflowError) as error:
            reason = getattr(error, "strerror", None) or error
            raise SettingError("--port", f"{port} cannot be used ({reason}); 0 selects a free port.") from error
        self.report = report
        self.hosts = {f"{name}:{self.server_port}" for name in (HOST, "localhost")}
        if self.server_port == 80:
            self.hosts |= {HOST, "localhost"}

    @property
    def address(self) -> str:
        """URL of the report."""
        return f"http://{HOST}:{self.server_port}/"

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore closed connections; report other errors as http.server does."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]
