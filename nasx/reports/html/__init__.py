"""HTML report of a run: load, compute, render, serve."""
