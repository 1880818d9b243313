"""Entry of the command `nasx` and of `python -m nasx`.

Imports almost nothing at first: Ctrl-C ends the process with one line from the first moment on.
"""

import os
import signal
from types import FrameType
from typing import NoReturn


def _end(signal_number: int = signal.SIGINT, frame: FrameType | None = None) -> NoReturn:
    try:
        os.write(2, b"nasx: interrupted.\n")
    finally:
        os._exit(128 + signal_number)


if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # in the background, a shell ignores Ctrl-C
    signal.signal(signal.SIGINT, _end)


def run() -> NoReturn:
    """Run the command and exit."""
    _open_standard_files()
    from nasx.cli.main import run as run_command  # typer and rich take 0.1 s to load

    try:
        if signal.getsignal(signal.SIGINT) is _end:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        run_command()
    except KeyboardInterrupt:
        _end()


def _open_standard_files() -> None:
    """Open /dev/null in place of a closed stdin, stdout or stderr: else the next file would get its number.

    Libraries write to descriptors 1 and 2 themselves, e.g. into the journal if its descriptor were 1.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # the lowest free number
            os.set_inheritable(opened, True)


if __name__ == "__main__":
    run()
