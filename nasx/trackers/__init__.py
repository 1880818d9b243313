"""Searches shown in TensorBoard, MLflow or Weights & Biases: every trial a run of its own below that of the search.

Finished trials are logged in the process that runs the search: workers need no tracker. They go
through a queue to a thread, so that a tracker that is slow or down never delays the search, let alone ends it.
"""
