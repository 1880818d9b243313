"""How large a config becomes once its aliases are put in: a few lines of YAML can unfold to more than any memory holds.

a: &a [x, x]
b: &b [*a, *a]      # and so on, twice as much a line
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import yaml  # type: ignore[import-untyped]

from nasx.errors import ConfigError

MAX_BYTES: Final = 1_000_000
MAX_VALUES: Final = 100_000


def check_extent(file: Path) -> None:
    """Raise ConfigError for a file that is, or becomes, too large to be a config.

    What is wrong with it otherwise is told by whoever composes it.
    """
    try:
        if file.stat().st_size > MAX_BYTES:
            raise ConfigError(f"{file} is no config: it is larger than {MAX_BYTES:,} bytes.")
        node = yaml.compose(file.read_bytes(), Loader=yaml.SafeLoader)
        n_values = _count(node, {})
    except RecursionError as error:
        raise ConfigError(f"{file} is no config: its values are nested without end.") from error
    except (yaml.YAMLError, UnicodeDecodeError, OSError):
        return
    if n_values > MAX_VALUES:
        raise ConfigError(f"{file} is no config: its aliases unfold to more than {MAX_VALUES:,} values.")


def _count(node: Any, known: dict[int, int]) -> int:
    """Values below a node, an alias counted wherever it stands. Endless recursion for one that stands within itself."""
    if id(node) not in known:
        children = node.value if isinstance(node, yaml.SequenceNode) else []
        if isinstance(node, yaml.MappingNode):
            children = [child for pair in node.value for child in pair]
        known[id(node)] = 1 + sum(_count(child, known) for child in children)
    return known[id(node)]
