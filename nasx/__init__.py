"""Search for image classifiers that are accurate and introspectable: networks that people can understand and debug.

A **space** turns a genotype into a network. A **scorer** measures a trained network. An **algorithm** proposes
genotypes (ask) and receives their objective values (tell). A **trial** is one architecture trained and scored once; a
**run** is a set of trials in one directory.

::

    run = nasx.search("digits", {"algorithm.evaluations": 16})
    best = run.front()[0]
    best.explain()
    best.predict(["seven.png"]).classes

For any torch classifier: `nasx.score(model, data)` and `nasx.debug(model, train, validation)`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nasx.errors import (
        ArchitectureError,
        ConfigError,
        DataError,
        DeviceError,
        NasxError,
        ResourceError,
        RunError,
        SettingError,
    )
    from nasx.introspection.score_model import ModelScore, score
    from nasx.protocols import Dataset, Execution, Problem, Replayable, Scorer, SearchAlgorithm, SearchSpace
    from nasx.results import ExportedModel, Network, Predictions, Run, load_model, load_run, resume, search
    from nasx.trial import Score, Trial
    from nasx.workflows.debug_model import DebugResult, debug

__version__ = "0.1.0"

_MODULES = {  # imported when one of their names is first used: torch takes seconds to load
    "nasx.errors": [
        "ArchitectureError",
        "ConfigError",
        "DataError",
        "DeviceError",
        "NasxError",
        "ResourceError",
        "RunError",
        "SettingError",
    ],
    "nasx.introspection.score_model": ["ModelScore", "score"],
    "nasx.protocols": ["Dataset", "Execution", "Problem", "Replayable", "Scorer", "SearchAlgorithm", "SearchSpace"],
    "nasx.results": ["ExportedModel", "Network", "Predictions", "Run", "load_model", "load_run", "resume", "search"],
    "nasx.trial": ["Score", "Trial"],
    "nasx.workflows.debug_model": ["DebugResult", "debug"],
}
_HOME = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "ArchitectureError",
    "ConfigError",
    "DataError",
    "Dataset",
    "DebugResult",
    "DeviceError",
    "Execution",
    "ExportedModel",
    "ModelScore",
    "NasxError",
    "Network",
    "Predictions",
    "Problem",
    "Replayable",
    "ResourceError",
    "Run",
    "RunError",
    "Score",
    "Scorer",
    "SearchAlgorithm",
    "SearchSpace",
    "SettingError",
    "Trial",
    "__version__",
    "debug",
    "load_model",
    "load_run",
    "resume",
    "score",
    "search",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'nasx' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
