"""Runs the trials that an algorithm asks for: in process, on this machine's workers, or on a cluster."""
