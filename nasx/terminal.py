"""Output to terminals, files and pipes: no text can control a terminal, and no failed write ends a command.

Every command runs in `safe_streams`, so that `print`, warnings, logs of libraries and tracebacks are escaped. `Console`
is the only console of nasx: it adds colors and moves the cursor, but escapes every text that it prints.
"""

from __future__ import annotations

import codecs
import io
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any, cast

from rich.console import Console as RichConsole
from rich.console import ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.status import Status
from rich.text import Text

from nasx.escaping import printable

# for consoles without Unicode, e.g. LANG=C or Windows' code page 1252
_ASCII = {"±": "+-", "…": "...", "→": "->", "–": "-", "—": "-", "×": "x", "·": ".", "≤": "<=", "≥": ">=", "•": "*"}


def _replace(error: UnicodeError) -> tuple[str, int]:
    """Return ASCII for characters that the encoding of a stream does not have."""
    assert isinstance(error, UnicodeEncodeError)
    characters = error.object[error.start : error.end]
    text = "".join(_ASCII.get(c) or c.encode("ascii", "backslashreplace").decode() for c in characters)
    return text, error.end


codecs.register_error("nasx", _replace)


class Stream:
    """A stream that accepts any text. It remembers the first failure, and drops the text that follows."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self.error: OSError | None = None

    def write(self, text: str) -> int:
        with self._remembered():
            try:
                self._stream.write(text)
            except UnicodeEncodeError as error:
                self._stream.write(text.encode(error.encoding, "nasx").decode(error.encoding))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        with self._remembered():
            self._stream.flush()

    @contextmanager
    def _remembered(self) -> Iterator[None]:
        """Run the block; remember the error if the disk is full, or the reader or the terminal is gone."""
        try:
            yield
        except OSError as error:
            self.error = self.error or error
        except ValueError:  # the stream is closed
            if not self._stream.closed:
                raise

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class SafeStream(Stream):
    """A stream that escapes what could control a terminal. Only consoles of rich write to `rich_proxied_file`."""

    encoding = "utf-8"  # it accepts any text: for other encodings, click would write to the stream below

    def __init__(self, stream: IO[str]) -> None:
        super().__init__(stream)
        self.rich_proxied_file = Stream(stream)

    def write(self, text: str) -> int:
        return super().write(printable(text, lines=True))

    @property
    def failure(self) -> OSError | None:
        """The first error of any write."""
        return self.error or self.rich_proxied_file.error


@contextmanager
def safe_streams() -> Iterator[None]:
    """Replace stdout and stderr by safe ones within the block."""
    if isinstance(sys.stdout, SafeStream) or isinstance(sys.stderr, SafeStream):  # the block is nested
        yield
        return
    before = sys.stdout, sys.stderr
    # None: closed when Python started. `print` to a stderr of None would write to stdout
    sys.stdout, sys.stderr = (cast("Any", SafeStream(stream or io.StringIO())) for stream in before)
    try:
        yield
        flush()
    finally:
        sys.stdout, sys.stderr = before


def flush() -> OSError | None:
    """Write what is buffered. Return the error of stdout if its text is lost; None if its reader has closed it."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    error = sys.stdout.failure if isinstance(sys.stdout, SafeStream) else None
    return None if isinstance(error, BrokenPipeError) else error


def discard_unwritten() -> None:
    """Let Python close stdout and stderr without errors at the end of the process, even if they cannot be written."""
    for stream in (sys.__stdout__, sys.__stderr__):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError):
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # type: ignore[union-attr]


UNLIMITED = 100_000  # columns


class Console(RichConsole):
    """Console on which text is never markup, and never controls the terminal."""

    def __init__(self, *, stderr: bool = False, **settings: Any) -> None:
        super().__init__(stderr=stderr, markup=False, emoji=False, highlight=False, **settings)

    @property
    def file(self) -> IO[str]:
        """The stream below all replacements of stdout and stderr."""
        file = super().file
        while (below := getattr(file, "rich_proxied_file", None)) is not None:
            file = below
        return file

    @file.setter
    def file(self, new_file: IO[str]) -> None:
        self._file = new_file

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield the segments of something, with escaped texts and without links."""
        for text, style, control in super().render(renderable, options):
            if control:
                yield Segment(text, style, control)
            else:
                yield Segment(printable(text, lines=True), style.update_link(None) if style and style.link else style)

    def status(self, status: RenderableType, **settings: Any) -> Status:
        """Return a spinner next to a text."""
        return super().status(Text(status) if isinstance(status, str) else status, **settings)

    def say(self, line: str) -> None:
        """Print one line, however long it is: newlines in it are escaped."""
        self.print(Text(printable(line)), soft_wrap=True)


def answers() -> Console:
    """Return a console for stdout: as wide as the terminal, or of unlimited width if there is none.

    Programs that read a table need every number in full. COLUMNS sets another width.
    """
    console = Console()
    if not console.is_terminal and not os.environ.get("COLUMNS"):
        console.width = UNLIMITED
    return console
