"""The journal of a run: `run.db`, from which everything can be told and every search resumed.

Only the process that searches writes; others may read meanwhile. Each candidate is recorded when it is asked for and
each trial when it has finished, in one transaction, before the algorithm is told: so a killed search finds in its
journal all that it knew. Nothing in it is ever changed or removed.
"""

from nasx.store.journal import RunStore
from nasx.store.records import Event, Lineage, NoiseRecord, RunInfo
from nasx.store.schema import SCHEMA_VERSION

__all__ = ["SCHEMA_VERSION", "Event", "Lineage", "NoiseRecord", "RunInfo", "RunStore"]
