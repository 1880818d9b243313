"""Calls that typer cannot parse: one line that names the option, the value and what was expected."""

from __future__ import annotations

import pytest

from nasx.cli.main import main


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["explain"], "nasx: --arch-id is missing. `nasx --help`"),
        (["explain", "--arch-id=ab", "--samples=0"], "nasx: --samples must be at least 1, got 0. `nasx"),
        (["explain", "--arch-id=ab", "--samples=x"], "nasx: --samples must be an integer, got 'x'. `nasx"),
        (["explain", "--arch-id=ab", "--device=tpu"], "nasx: --device: 'tpu' is not one of 'auto', 'cpu', 'cuda'."),
        (["train", "--front", "--seeds=0"], "nasx: --seeds must be at least 1, got 0."),
        (["compare"], "nasx: RUN RUN... is missing."),
        (["search", "--nope"], "nasx: No such option: --nope"),
        (["nope"], "nasx: No such command 'nope'."),
    ],
)
def test_a_call_that_cannot_be_parsed_is_one_line(words, message, capsys):
    assert main(words) == 2

    err = capsys.readouterr().err
    assert err.startswith(message)
    assert err.count("\n") == 1


def test_nasx_alone_prints_its_help_and_no_error(capsys):
    assert main([]) == 2

    out, err = capsys.readouterr()
    assert "Usage: nasx" in out + err
    assert "nasx:" not in err
