"""Runs on disk: directory, journal (`run.db`), records of trainings, and their integrity checks.

Only the process that runs the search writes to the journal; others may read it at the same time. Each candidate is
recorded when it is proposed, and each trial when it finishes, in one transaction, before the algorithm receives the
result: a killed search resumes from its journal. Entries are never changed or removed.
"""
