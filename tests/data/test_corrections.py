"""The file of corrections: what is accepted, and one line for each mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from nasx.data.corrections import MAX_BYTES, Action, parse_corrections, read_corrections
from nasx.errors import DataError

HEADER = "image,action,label,reason\n"


def parse(text: str | bytes):
    return parse_corrections(text if isinstance(text, bytes) else text.encode(), "fixes.csv").decisions


def test_each_row_is_a_decision_with_its_line():
    keep, relabel, drop = parse(HEADER + "a/1.png,keep,,\na/2.png,relabel,b,looks like b\n17,drop,,blurred\n")

    assert (keep.image, keep.action, keep.label, keep.line) == ("a/1.png", Action.KEEP, "", 2)
    assert (relabel.image, relabel.action, relabel.label, relabel.line) == ("a/2.png", Action.RELABEL, "b", 3)
    assert (drop.image, drop.action, drop.line) == ("17", Action.DROP, 4)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"\xef\xbb\xbfimage,action,label\nx,relabel,b\n", id="byte order mark"),
        pytest.param(b"image,action,label\r\n\r\nx,relabel,b\r\n", id="CRLF and blank lines"),
        pytest.param(b"image;action;label;reason\nx;Relabel;b;a, b or c\n", id="semicolons"),
        pytest.param(b"image\taction\tlabel\nx\trelabel\tb\n", id="tabs"),
        pytest.param(b"rank,Label,IMAGE,note,action\n1,b,x,,RELABEL\n", id="other columns and order"),
        pytest.param(b'"image","action","label"\n"x","relabel","b"\ny,,\nz', id="quotes and undecided rows"),
    ],
)
def test_files_of_spreadsheets_are_read(text):
    assert [(d.image, d.action, d.label) for d in parse(text)] == [("x", Action.RELABEL, "b")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", r"fixes.csv is empty\. Expected a CSV with the header image,action,label,reason\."),
        (b" \n\n", r"fixes.csv is empty"),
        ("image,action,label\nx,keep,\n".encode("utf-16"), r"fixes.csv is not UTF-8: save it as CSV in UTF-8\."),
        (b"a/1.png,keep,\n", r"fixes.csv has no header\. Expected .*image,action,label,reason"),
        (b"image,label\nx,b\n", r"fixes.csv has no column action\."),
        (b"image,action,label,Image\nx,keep,,\n", r"fixes.csv has two columns image\."),
        (b"image,action,label\nx,y.png,drop,\n", r"fixes.csv, line 2: has 4 cells, expected 3: quote a name"),
        (b"image,action,label\n,drop,\n", r"fixes.csv, line 2: names no image\."),
        (
            b"image,action,label\n\nx,,b\n",
            r"fixes.csv, line 3: its action is empty, .* Write relabel to use its label\.",
        ),
        (b"image,action,label\nx,relable,b\n", r"line 2: its action is 'relable', .* Did you mean relabel\?"),
        (b'image,action,label\nx,"drop,\n', r"fixes.csv, line 2: is not CSV: unexpected end of data\."),
        (b"image,action,label\n" + b"x" * 200_000 + b",drop,\n", r"fixes.csv, line 2: is not CSV: field larger"),
    ],
)
def test_a_malformed_file_is_refused_in_one_line(text, message):
    with pytest.raises(DataError, match=message) as error:
        parse(text)

    assert "\n" not in str(error.value)


def test_what_is_no_file_is_refused(tmp_path):
    large = tmp_path / "large.csv"
    with large.open("wb") as file:
        file.truncate(MAX_BYTES + 1)

    for path, message in {
        tmp_path: r"must name a CSV file: .* is a directory, expected a file\.",
        tmp_path / "none.csv": r"none.csv does not exist: dataset.corrections must name a CSV file\.",
        Path("/dev/zero"): r"is a device, expected a file",
        large: r"has 67,108,865 bytes, expected at most 67,108,864",
    }.items():
        with pytest.raises(DataError, match=message):
            read_corrections(path)
