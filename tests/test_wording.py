"""Comments, docstrings and messages stay in plain English: a list of patterns, each with a small allowance."""

from __future__ import annotations

from pathlib import Path

import pytest

import nasx
from scripts.source_figures import PATTERNS, count_words, matches, modules, prose

PACKAGE = Path(nasx.__file__).parent
ALLOWED = 0.3  # matches per 1,000 words: a quote, a name, a sentence that needs the word


@pytest.fixture(scope="module")
def counted():
    return count_words([text for file in modules(PACKAGE) for text in prose(file)])


@pytest.mark.parametrize("name", PATTERNS)
def test_the_pattern_is_rare(counted, name):
    words, found = counted

    examples = [f"{f.relative_to(PACKAGE)}: {text}" for f in modules(PACKAGE) for n, text in matches(f) if n == name]
    assert found[name] <= ALLOWED * words / 1000, "\n".join(examples[:20])


def test_a_module_full_of_riddles_would_be_noticed(tmp_path):
    file = tmp_path / "riddles.py"
    file.write_text(
        '"""What lies beside it, told anew where nobody knows."""\n# Who stands alone\nx = "gives the colour"\n'
    )

    found = {name for name, _ in matches(file)}

    assert {
        "opens with What, Who, Where or Whether",
        "lies, stands (is)",
        "beside (next to)",
        "tell, told (report)",
        "mend, dear, anew",
        "where (if, when)",
        "alone (only)",
    } <= found


def test_doctests_and_type_comments_are_no_prose(tmp_path):
    file = tmp_path / "plain.py"
    file.write_text('"""Return it.\n\n>>> tell_where()\n"""\nimport x  # type: ignore[alone]\n')

    assert matches(file) == []
