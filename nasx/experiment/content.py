"""Content of the data of an experiment, as digests: of files, and what older journals know of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nasx.config.components import file_settings
from nasx.errors import DataError
from nasx.runs.rows import DataRecord, RunInfo
from nasx.runs.stored_run import FILE

if TYPE_CHECKING:
    from nasx.data.digest import Content


def known_of_older(info: RunInfo) -> dict[str, DataRecord]:
    """Return what the journal of an older version knows of its data: the names of the classes."""
    from nasx.data.digest import CLASSES, describe_classes  # numpy takes time to load

    if not info.class_names:
        return {}
    found = describe_classes(info.class_names)
    return {CLASSES: DataRecord(CLASSES, found.digest, found.facts)}


def place_of(difference: str) -> str:
    """Return an override that names another place of the data that differ."""
    if found := re.match(rf"the {FILE}([\w.]+) ", difference):
        return f"{found[1]}=FILE"
    return "space.weights=FILE" if difference.startswith("the backbone ") else "dataset.root=DIR"


def describe_files(node: Mapping[str, Any], key: str) -> dict[str, Content]:
    """Return the content of the files that a component reads. Raises DataError if one cannot be read."""
    from nasx.data.digest import describe_file  # numpy takes time to load

    found = {}
    for setting, file in file_settings(node, key).items():
        try:
            if file.is_file():
                found[f"{FILE}{setting}"] = describe_file(file)
        except OSError as error:
            raise DataError(f"{setting}: {file} cannot be read: {error.strerror or error}.") from error
    return found
