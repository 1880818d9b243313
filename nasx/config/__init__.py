"""Finds, composes and checks configs: the only place that knows Hydra besides the command line."""
