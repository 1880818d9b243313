"""Scorers: measure how far apart the classes are inside a trained network."""
