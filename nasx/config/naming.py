"""Names of a user's own data: that of a dataset, as it is shown, and that of its runs, as a folder is named."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from nasx.config.plain import get
from nasx.escaping import valid_name

# class of a dataset of the user's own -> its setting with the place of the data
OWN_DATA: Final = {"nasx.data.folder.ImageFolder": "root", "nasx.data.npz.NumpyArrays": "file"}
RESERVED: Final = re.compile(r"(con|prn|aux|nul|com\d|lpt\d|latest)(\..*)?", re.IGNORECASE)  # by Windows, by runs/
MAX_LENGTH: Final = 60  # characters of a run's name


def place_title(place: str | None, default: str = "") -> str:
    """Return the name of a folder or the stem of a file, as the user knows it; `default` without a place or a name.

    A link has its own name, not that of its target; "." is the current directory.

    >>> place_title("/data/my photos/"), place_title("scans.npz"), place_title(None, "folder")
    ('my photos', 'scans', 'folder')
    """
    if not place:
        return default
    expanded = place if os.path.lexists(place) else os.path.expanduser(os.path.expandvars(place))  # noqa: PTH111
    name = Path(os.path.abspath(expanded)).name  # noqa: PTH100 - resolve() would follow links
    return valid_name(name.removesuffix(".npz")) or default


def run_name(title: str) -> str:
    """Return a name for the folder of runs: letters, digits and . _ + -; "" if the title has no letter and no digit.

    >>> run_name("my photos (2024)"), run_name(".hidden"), run_name("latest"), run_name("..."), run_name("Größe")
    ('my_photos_2024', 'hidden', 'latest_runs', '', 'Größe')
    """
    cleaned = re.sub(r"[^\w.+-]+", "_", title).strip("._+-")[:MAX_LENGTH].rstrip("._+-")
    if not any(character.isalnum() for character in cleaned):
        return ""
    return f"{cleaned}_runs" if RESERVED.fullmatch(cleaned) else cleaned


def own_data_name(config: Mapping[str, Any]) -> str:
    """Return the name for the runs of a config with data of the user's own; "": it has none, or no name."""
    setting = OWN_DATA.get(str(get(config, "dataset._target_")))
    place = None if setting is None or get(config, "evaluation") else get(config, f"dataset.{setting}")
    return run_name(place_title(place)) if isinstance(place, str) else ""
