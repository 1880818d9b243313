"""Evaluate one candidate: train and score it within limits, or look it up in a table."""
