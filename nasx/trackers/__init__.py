"""Logging of searches to TensorBoard, MLflow or Weights & Biases: one child run per trial below the run of the search.

Only the process of the search logs finished trials; workers need no tracker. A thread reads them from a queue, so that
a slow or unreachable tracker neither delays nor ends the search.
"""
