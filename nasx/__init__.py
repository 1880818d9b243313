"""nasx searches for image classifiers that are accurate and whose inside people can understand.

Three nouns carry everything.

A **space** turns a genotype into a network (`nasx.spaces`).
A **scorer** says how introspectable a trained network is (`nasx.introspection`).
An **algorithm** asks for genotypes and is told objectives (`nasx.algorithms`).

A **trial** is one architecture trained and scored once; a **run** is a set of trials in one directory.

In Python, on any model and data: `nasx.score(model, data)` and `nasx.debug(model, train, validation)`.
On a run: `nasx.load_run(directory)`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nasx.introspection.score_model import score as score
    from nasx.results import load_run as load_run
    from nasx.workflows.debug_model import debug as debug

__version__ = "0.1.0"

# name -> its module; imported when first asked for: torch takes seconds to load
_LAZY = {"score": "nasx.introspection.score_model", "debug": "nasx.workflows.debug_model", "load_run": "nasx.results"}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'nasx' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *_LAZY]
