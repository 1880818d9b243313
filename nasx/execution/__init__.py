"""Run the trials that an algorithm proposes: in process, on this machine's workers, or on a cluster."""
