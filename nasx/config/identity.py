"""Identity of a run's config: which settings decide its results, and how two configs differ in them."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from nasx.config.describe import yaml_text
from nasx.config.plain import Config, as_plain, drop, get, leaves, put

# Settings of the search that may change when it is resumed: amount, speed and location, but nothing that changes a
# result. Components declare their own, e.g. dataset.root (`nasx.protocols.HasPlaces`).
CHANGEABLE: Final = (
    "algorithm.evaluations",
    "search",
    "execution",
    "runs_dir",
    "logger",
    "finetune_front",
    "provenance",
)
# Places of data in runs of older versions, whose journals do not name them
OLDER_PLACES: Final = (
    "dataset.root",
    "dataset.file",
    "dataset.path",
    "dataset.cache",
    "dataset.memory_map",
    "evaluation.table",
)
_NOT_HASHED: Final = (*CHANGEABLE, "dataset.root", "evaluation.table")  # as in all versions: old runs contain the hash
SHOWN: Final = 3  # differences in one message


class _Missing:
    def __repr__(self) -> str:
        return "not set"


MISSING: Final = _Missing()


@dataclass(frozen=True)
class Difference:
    """A setting that differs between two configs."""

    key: str  # full key
    before: Any  # MISSING: not set
    now: Any

    def __str__(self) -> str:
        return f"{self.key} was {_text(self.before)}, is {_text(self.now)} now"


def config_hash(config: Mapping[str, Any]) -> str:
    """Return a hash of the settings that affect a result, as the journal of each run contains it."""
    kept = as_plain(config)
    for key in _NOT_HASHED:
        kept = drop(kept, key)
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:16]


def differences(before: Config, now: Config) -> list[Difference]:
    """Return the settings that differ, by key. 1 and 1.0 are the same number, the order of keys does not matter."""
    old, new = dict(leaves(before)), dict(leaves(now))
    for own, other in ((old, new), (new, old)):  # {} became {"a": 1}: only "a" differs
        for empty in [key for key, value in own.items() if value == {}]:
            if any(key.startswith(f"{empty}.") for key in other):
                del own[empty]
    return [
        Difference(key, old.get(key, MISSING), new.get(key, MISSING))
        for key in sorted({*old, *new})
        if not _is_equal(old.get(key, MISSING), new.get(key, MISSING))
    ]


def deciding(found: Sequence[Difference], free: Collection[str]) -> list[Difference]:
    """Return the differences outside of the `free` settings and sections, which do not change a result."""
    return [each for each in found if not any(each.key == key or each.key.startswith(f"{key}.") for key in free)]


def in_words(found: Sequence[Difference]) -> str:
    """Return the differences in one line: keys and both values."""
    more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return "; ".join(map(str, found[:SHOWN])) + more


def merged(original: Config, present: Config) -> Config:
    """Return `present` with the original value of each setting that is equal: 1.0 stays 1.0 if it became 1."""
    result = present
    for key, value in leaves(present):
        before = get(original, key, MISSING)
        if before is not MISSING and _is_equal(before, value):
            result = put(result, key, before)
    return result


def _is_equal(a: Any, b: Any) -> bool:
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_is_equal, a, b))
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(_is_equal(a[key], b[key]) for key in a)
    if isinstance(a, bool) != isinstance(b, bool):
        return False
    if isinstance(a, float) and isinstance(b, float) and math.isnan(a) and math.isnan(b):
        return True
    return bool(a == b)


def _text(value: Any) -> str:
    text = repr(value) if value is MISSING else yaml_text(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
