"""Synthetic trials, runs, networks, searches and files for the tests."""
