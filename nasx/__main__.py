"""`python -m nasx` is `nasx`."""

from nasx.cli.main import run

run()
