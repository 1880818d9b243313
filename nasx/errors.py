"""Exceptions for problems that the user can fix.

::

    NasxError                 one line: what was expected, what was received, what to do
    ├── ConfigError           unknown config, or invalid key, type or value in one
    │   └── SettingError      invalid setting of a component, named by its parameter
    ├── DataError             dataset that is missing, damaged or of the wrong form
    ├── RunError              run directory that is missing, damaged, in use or of another config
    ├── ArchitectureError     architecture id or string that is unknown, ambiguous or malformed
    └── ResourceError         missing resource: a GPU, disk space, an optional package
        ├── DeviceError       GPU that this process can no longer use
        └── ServerDiedError   server of Ray on this machine that has died

    TrialFailure              trial that ended without objectives; handled within the evaluation

The command line prints a `NasxError` as one line and exits with status 2. Every other exception is a bug of nasx: it is
printed with its traceback, and the exit status is 1.
"""

from __future__ import annotations

import difflib
import errno
import os
from collections.abc import Iterable

from nasx.escaping import printable, shorten_words


class NasxError(Exception):
    """Base class of problems that the user can fix. The message is one line.

    It may quote external text, so newlines and terminal control characters are escaped.
    """

    def __str__(self) -> str:
        return shorten_words(printable(super().__str__()))


class ConfigError(NasxError):
    """Raised for an unknown config, or an invalid key, type or value in one."""


class SettingError(ConfigError):
    """Raised for an invalid setting of a component.

    A component names its own parameter. The code that builds it from a config adds the group: `population_size must be
    at least 4, got 2` becomes `algorithm.population_size must be at least 4, got 2`.
    """

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"{name} {problem}")
        self.name = name
        self.problem = problem

    def __reduce__(self) -> tuple[type, tuple[str, str]]:  # to be sent from a worker
        return type(self), (self.name, self.problem)


class DataError(NasxError):
    """Raised for a dataset that is missing, damaged or of the wrong form."""


class RunError(NasxError):
    """Raised for a run directory that is missing, damaged, in use or of another config."""


class ArchitectureError(NasxError):
    """Raised for an architecture id or string that is unknown, ambiguous or malformed."""


class ResourceError(NasxError):
    """Raised for a missing resource: a GPU, disk space, an optional package."""


class ServerDiedError(ResourceError):
    """Raised if a server of Ray on this machine has died. Ray would end this process a minute later."""


class DeviceError(ResourceError):
    """Raised if this process can no longer use the GPU: every further call fails. Other processes can use it."""

    def __init__(self, problem: str) -> None:
        super().__init__(
            f"this process can no longer use the GPU: {problem}. Finished trials are kept: resume the run."
        )
        self.problem = problem

    def __reduce__(self) -> tuple[type, tuple[str]]:  # to be sent from a worker
        return type(self), (self.problem,)


class TrialFailure(Exception):  # noqa: N818 - a status of a trial, not an error of nasx
    """Raised for a trial that ends without objectives, with a `nasx.trial.Reason` and a sentence for the journal."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type, tuple[str, str]]:  # to be sent from a worker
        return type(self), (self.reason, self.detail)


OUT_OF_MEMORY = (  # parts of error messages
    "out of memory",  # torch.OutOfMemoryError of any device, "CUDA error: out of memory"
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
    "CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED",
    # creating a library handle is its first allocation; the device itself has been checked before
    "CUBLAS_STATUS_NOT_INITIALIZED",
    "CUDNN_STATUS_NOT_INITIALIZED",
    "Unable to find a valid cuDNN algorithm",  # no algorithm whose workspace fits into memory
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",  # on Windows
    "Cannot allocate memory",  # of the operating system
    "std::bad_alloc",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error reports a lack of host or device memory, in any of the forms that libraries raise.

    >>> is_out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"))
    True
    >>> is_out_of_memory(RuntimeError("CUDA error: an illegal memory access was encountered"))
    False
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and any(form.lower() in str(error).lower() for form in OUT_OF_MEMORY)


def file_problem(error: BaseException) -> str | None:
    """Return one line about an error of the operating system, e.g. a file that cannot be written; None for others.

    >>> file_problem(PermissionError(13, "Permission denied", "/root/x"))
    '/root/x: Permission denied. Check the path and its permissions, or choose another place.'
    """
    if isinstance(error, OSError):
        path = error.filename if isinstance(error.filename, str | bytes) else None  # may be a descriptor
        where = "" if path is None else f"{os.fsdecode(path)}: "
        advice = "" if path is None else " Check the path and its permissions, or choose another place."
        return f"{where}{(error.strerror or first_line(error)).rstrip('.')}.{advice}"
    text = first_line(error)
    if isinstance(error, ValueError) and text.startswith("embedded null"):
        return f"a path contains a null byte ({text})."
    if isinstance(error, RuntimeError) and text.startswith("Could not determine home directory"):
        return "a path begins with ~, but there is no such home directory. Write the path in full."
    return None


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the name of its class if it has none.

    >>> first_line(RuntimeError("CUDA error: out of memory\\nCUDA kernel errors might ...")), first_line(MemoryError())
    ('CUDA error: out of memory', 'MemoryError')
    """
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def kind_and_line(error: BaseException) -> str:
    """Return the class of an error and the first line of its message.

    >>> kind_and_line(ValueError("bad\\nmore")), kind_and_line(MemoryError())
    ('ValueError: bad', 'MemoryError')
    """
    kind, line = type(error).__name__, first_line(error)
    return kind if line == kind else f"{kind}: {line}"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return a sentence with the nearest match among `known`, or with the whole list if none is near.

    >>> did_you_mean("dataset.rot", ["dataset.root", "seed"])
    'Did you mean dataset.root?'
    >>> did_you_mean("color", ["root", "seed"])
    'Known: root, seed.'
    """
    choices = sorted(known)
    near = difflib.get_close_matches(word, choices, n=1, cutoff=0.6)
    if near:
        return f"Did you mean {near[0]}?"
    return f"Known: {', '.join(choices)}." if choices else ""
