"""Runs on disk: directory, journal (`run.db`), records of trainings, and checks of all of them.

Only the process that searches writes to the journal; others may read at the same time. Each candidate is recorded when
it is proposed and each trial when it is finished, in one transaction, before the algorithm receives it: a killed search
resumes from its journal. No record is ever changed or removed.
"""
