"""Count modules, lines and wording of the source: `python -m scripts.source_figures [DIRECTORY] [--words]`.

Wording is counted per 1,000 words of comments, docstrings and messages, as patterns that make English hard to read.
`tests/test_wording.py` holds the package to limits of them.
"""

from __future__ import annotations

import argparse
import ast
import io
import re
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import NamedTuple

# name -> pattern, in any case; matched in whole paragraphs
PATTERNS = {
    "where (if, when)": r"\bwhere\b(?! (?:is|are|to|it|they|the|each|a|in)\b)|[,;] where\b",
    "opens with What, Who, Where or Whether": r"(?:^|[.!?:] )(?:What|Who|Where|Whether|Whoever|Whatever)\b",
    "lies, stands (is)": r"\b(?:lies?|lay|stands?|stood)\b(?! (?:for|in for|deviation))",
    "tell, told (report)": r"\b(?:tells?|told|telling)\b",
    "alone (only)": r"\balone\b",
    "beside (next to)": r"\bbeside\b",
    "gives (returns)": r"\bgives?\b(?! up)",
    "mend, dear, anew": r"\b(?:mend(?:s|ed|ing)?|dear|anew)\b",
    "source that knows, hears, wants": r"\b(?:knows|hears?|heard|vouch(?:es)?|puts? up with|goes? home|wants?)\b",
    "so many": r"\b(?:so many|as (?:sure|many|much|long) as this)\b",
    "has had, is had": r"\b(?:can be had|is had|be had|to be had)\b",
    "likewise, hence, thereby, whose": r"\b(?:likewise|thereby|therein|thereof|wherever|whoever|whichever|hitherto)\b",
    "nothing of it, none of": r"\b(?:nothing of|no more than|all that (?:is|are|it))\b",
    "British spelling": r"\b\w*(?:regularis|optimis(?!tic)|normalis|initialis|summaris|colour|neighbour|behaviour|"
    r"labell|modell|cancell|grey\b|centre|recognis|organis|serialis|generalis|minimis|maximis|analys(?:e|ing)\b|judgement)\w*",
}


class Figures(NamedTuple):
    """Size of a package."""

    modules: int
    lines: int
    code: int  # lines that are neither blank, comment nor docstring
    imports: int  # lines
    median: float  # lines of a module
    top_level: int  # modules that are in no subpackage
    functions: int  # lines of the longest function
    setting_errors: int  # `raise SettingError`
    args_blocks: float  # Args:, Returns:, Raises: per 1,000 words of docstrings and comments


def modules(directory: Path) -> list[Path]:
    """Return the Python files of a package, without those of tests."""
    return sorted(directory.rglob("*.py"))


def docstrings(tree: ast.AST) -> Iterator[ast.Constant]:
    """Yield the docstring nodes of a module, its classes and functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
            first = node.body[0]
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                yield first.value


def comments(text: str) -> list[str]:
    """Return the comments of a module; lines that follow each other are one."""
    found: list[str] = []
    last = -1
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            words = token.string.lstrip("#: ").strip()
            if words.startswith(("type:", "noqa")):
                continue
            if token.start[0] == last + 1 and found:
                found[-1] += f" {words}"
            else:
                found.append(words)
            last = token.start[0]
    return found


def messages(tree: ast.AST) -> list[str]:
    """Return the string literals of at least three words that are no docstrings: messages, help and page text."""
    own = {id(node) for node in docstrings(tree)}
    parts = (n for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str) and id(n) not in own)
    return [
        text for n in parts if len((text := str(n.value)).split()) >= 3 and "\\" not in text and "CREATE" not in text
    ]


def paragraphs(docstring: str) -> list[str]:
    """Return the paragraphs of a docstring without doctests and literal blocks, each on one line."""
    kept = [p for p in re.split(r"\n\s*\n", docstring) if not p.lstrip().startswith(">>>")]
    return [" ".join(p.split()) for p in kept]


def prose(file: Path) -> list[str]:
    """Return the prose of a module: docstrings by paragraph, comments, messages."""
    text = file.read_text("utf-8")
    tree = ast.parse(text)
    told = [p for node in docstrings(tree) for p in paragraphs(str(node.value))]
    return [*told, *comments(text), *messages(tree)]


def count_words(texts: list[str]) -> tuple[int, Counter[str]]:
    """Return the number of words, and of the matches of each pattern."""
    words = sum(len(text.split()) for text in texts)
    found = Counter(
        {n: sum(len(re.findall(p, t, re.IGNORECASE if n != _OPENS else 0)) for t in texts) for n, p in PATTERNS.items()}
    )
    return words, found


_OPENS = "opens with What, Who, Where or Whether"


def matches(file: Path) -> list[tuple[str, str]]:
    """Return every match in a module as (pattern's name, text around it)."""
    found = []
    for text in prose(file):
        for name, pattern in PATTERNS.items():
            found += [
                (name, text[max(match.start() - 50, 0) : match.end() + 50])
                for match in re.finditer(pattern, text, re.IGNORECASE if name != _OPENS else 0)
            ]
    return found


def figures(directory: Path) -> Figures:
    """Measure a package."""
    sizes, code, imports, longest, raised, args, words = [], 0, 0, 0, 0, 0, 0
    for file in modules(directory):
        text = file.read_text("utf-8")
        tree = ast.parse(text)
        lines = text.splitlines()
        sizes.append(len(lines))
        texts = {line for node in docstrings(tree) for line in range(node.lineno, (node.end_lineno or 0) + 1)}
        code += sum(
            bool(s := line.strip()) and not s.startswith("#") and n not in texts for n, line in enumerate(lines, 1)
        )
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                imports += (node.end_lineno or 0) - node.lineno + 1
            elif isinstance(node, ast.FunctionDef):
                longest = max(longest, (node.end_lineno or 0) - node.lineno + 1)
        raised += len(re.findall(r"raise SettingError", text))
        told = " ".join(str(node.value) for node in docstrings(tree))
        args += len(
            re.findall(
                r"^\s*(?:Args|Returns|Raises|Yields):\s*$", "\n".join(str(n.value) for n in docstrings(tree)), re.M
            )
        )
        words += len(told.split()) + sum(len(c.split()) for c in comments(text))
    top = sum(file.parent == directory for file in modules(directory))
    return Figures(
        len(sizes), sum(sizes), code, imports, median(sizes), top, longest, raised, 1000 * args / max(words, 1)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", nargs="?", type=Path, default=Path("nasx"))
    parser.add_argument("--words", action="store_true", help="list every match of a pattern")
    arguments = parser.parse_args()
    for name, value in figures(arguments.directory)._asdict().items():
        print(f"{name:<45}{value:>10,.5g}" if isinstance(value, float) else f"{name:<45}{value:>10,}")
    words, found = count_words([text for file in modules(arguments.directory) for text in prose(file)])
    print(f"{'words of prose and messages':<45}{words:>10,}\nper 1,000 words:")
    for name in PATTERNS:
        print(f"  {name:<43}{1000 * found[name] / max(words, 1):>10.2f}")
    if arguments.words:
        for file in modules(arguments.directory):
            for name, text in matches(file):
                print(f"{file}: {name}: {text}")


if __name__ == "__main__":
    main()
