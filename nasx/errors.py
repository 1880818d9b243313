"""What can go wrong through no fault of nasx, told so that a person can mend it.

::

    NasxError                 one clear line: what was expected, what was received, what to do
    ├── ConfigError           a config that is unknown, or a key, type or range in it
    │   └── SettingError      one setting of a component, named by its parameter
    ├── DataError             a dataset that is missing, damaged or of the wrong form
    ├── RunError              a run directory that is missing, damaged, in use or of another config
    ├── ArchitectureError     an architecture id or string that is unknown, ambiguous or malformed
    └── ResourceError         what the machine lacks: a GPU, disk space, an optional package
        └── DeviceError       a GPU that this process can no longer use

    TrialFailure              a trial that ended without objectives; never leaves the evaluation

The command line shows a `NasxError` as one line and exits with status 2. Every other exception is a bug
of ours: it keeps its traceback and exits with status 1.
"""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable


class NasxError(Exception):
    """Something that the user can mend. The message is one line for people.

    It may quote what came from outside: characters that would break the line, or that a terminal obeys, are escaped.
    """

    def __str__(self) -> str:
        return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in super().__str__())


class ConfigError(NasxError):
    """A config that is unknown, or a key, a type or a range in one."""


class SettingError(ConfigError):
    """One setting of a component is out of range.

    Components name their own parameter; whoever builds them from a config knows the group and puts the key in full:
    `population_size must be at least 4, got 2` becomes `algorithm.population_size must be at least 4, got 2`.
    """

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"{name} {problem}")
        self.name = name
        self.problem = problem

    def __reduce__(self) -> tuple[type, tuple[str, str]]:  # else it could not be sent from a worker
        return type(self), (self.name, self.problem)


class DataError(NasxError):
    """A dataset that is missing, damaged or of the wrong form."""


class RunError(NasxError):
    """A run directory that is missing, damaged, in use, or written by another config."""


class ArchitectureError(NasxError):
    """An architecture id or string that is unknown, ambiguous or malformed."""


class ResourceError(NasxError):
    """Something that the machine lacks: a GPU, disk space, an optional package."""


class DeviceError(ResourceError):
    """The GPU can no longer be used by this process: every further call fails. Another process can use it."""

    def __init__(self, problem: str) -> None:
        super().__init__(
            f"this process can no longer use the GPU: {problem}. What has finished is kept: resume the run."
        )
        self.problem = problem

    def __reduce__(self) -> tuple[type, tuple[str]]:  # to be sent from a worker
        return type(self), (self.problem,)


class TrialFailure(Exception):  # noqa: N818 - a status of a trial, not an error of nasx
    """A trial that cannot have objectives. Carries one of `nasx.trial.Reason` and a sentence for the journal."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail

    def __reduce__(self) -> tuple[type, tuple[str, str]]:  # else it could not be sent from a worker
        return type(self), (self.reason, self.detail)


OUT_OF_MEMORY = (
    "out of memory",  # torch.OutOfMemoryError of any device, "CUDA error: out of memory"
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
    "CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED",
    # a library's handle is its first allocation; that the device works has been checked before
    "CUBLAS_STATUS_NOT_INITIALIZED",
    "CUDNN_STATUS_NOT_INITIALIZED",
    "Unable to find a valid cuDNN algorithm",  # none whose workspace fits
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",  # on Windows
    "Cannot allocate memory",  # of the operating system
    "std::bad_alloc",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error is a lack of memory, of the host or of a device, in any of the forms that libraries raise.

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


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message; the name of its class if it has none.

    >>> first_line(RuntimeError("CUDA error: out of memory\\nCUDA kernel errors might ...")), first_line(MemoryError())
    ('CUDA error: out of memory', 'MemoryError')
    """
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A sentence with the nearest match among `known`, or the whole list where nothing is near.

    >>> did_you_mean("dataset.rot", ["dataset.root", "seed"])
    'Did you mean dataset.root?'
    >>> did_you_mean("colour", ["root", "seed"])
    'Known: root, seed.'
    """
    choices = sorted(known)
    near = difflib.get_close_matches(word, choices, n=1, cutoff=0.6)
    if near:
        return f"Did you mean {near[0]}?"
    return f"Known: {', '.join(choices)}." if choices else ""
