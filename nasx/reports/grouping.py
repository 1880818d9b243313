"""Which runs repeat one another: those whose configs differ in the seed alone. And what tells the groups apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

# keys that change where, how fast or under which name something is searched, and the seed
ASIDE = (
    "seed",
    "name",
    "runs_dir",
    "provenance",
    "execution",
    "dataset.root",
    "evaluation.seconds",
    "evaluation.table",
)
TARGET = "_target_"


def group_labels(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """For each run the label of its group: equal for runs that differ in the seed alone.

    A label tells what differs between the groups, e.g. "algorithm=RandomSearch, training.epochs=3". A component that
    differs as a whole is told by its class, without its settings.

    >>> group_labels([{"seed": 0, "a": {"b": 1}}, {"seed": 1, "a": {"b": 1}}, {"seed": 0, "a": {"b": 2}}])
    ['a.b=1', 'a.b=1', 'a.b=2']
    """
    leaves = [_flat(config) for config in configs]
    keys = list(dict.fromkeys(key for own in leaves for key in own))
    differing = [key for key in keys if len({repr(own.get(key)) for own in leaves}) > 1]
    classes = {key.removesuffix(TARGET) for key in differing if key.endswith(TARGET)}
    told = [k for k in differing if k.endswith(TARGET) or not any(k.startswith(prefix) for prefix in classes)]
    rest = [k for k in differing if k not in told]  # settings of one class may differ too, beside another class
    labels = [", ".join(_told(key, own) for key in told if key in own) for own in leaves]
    for label in set(labels):
        same = [i for i, found in enumerate(labels) if found == label]
        more = [k for k in rest if len({repr(leaves[i].get(k)) for i in same}) > 1]
        for i in same:
            labels[i] = ", ".join(filter(None, [label, *(_told(k, leaves[i]) for k in more)])) or "all"
    return labels


def _told(key: str, leaves: Mapping[str, Any]) -> str:
    value = leaves.get(key)
    if key.endswith(TARGET):
        return f"{key.removesuffix('.' + TARGET)}={str(value).rpartition('.')[2]}"
    return f"{key}={value}"


def _flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Every leaf by its full key, without what is set aside."""
    leaves: dict[str, Any] = {}
    for name, value in config.items():
        key = f"{prefix}{name}"
        if key not in ASIDE:
            leaves |= _flat(value, f"{key}.") if isinstance(value, Mapping) else {key: value}
    return leaves
