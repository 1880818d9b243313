"""A scatter plot in plain characters, for terminals of any kind."""

from __future__ import annotations

from collections.abc import Sequence

FRONT, OTHER = "o", "."


def scatter(points: Sequence[tuple[float, float]], on_front: Sequence[bool], width: int, height: int) -> list[str]:
    """`height` lines of `width` characters: x grows to the right, y upwards; the front lies on top.

    The range is that of the points, (n_points, 2); where all share a coordinate, they lie in the middle of it.

    >>> for line in scatter([(0, 0), (1, 1), (1, 0)], [True, True, False], 5, 3): print(f"|{line}|")
    |    o|
    |     |
    |o   .|
    """
    rows = [[" "] * width for _ in range(height)]
    if points:
        columns = _places([x for x, _ in points], width)
        lines = _places([y for _, y in points], height)
        for front, column, line in sorted(zip(on_front, columns, lines, strict=True)):
            rows[height - 1 - line][column] = FRONT if front else OTHER
    return ["".join(row) for row in rows]


def _places(values: Sequence[float], n: int) -> list[int]:
    """Which of `n` equal steps from the lowest to the highest value each is nearest to."""
    low, high = min(values), max(values)
    if low == high:
        return [n // 2] * len(values)
    return [round((value - low) / (high - low) * (n - 1)) for value in values]
