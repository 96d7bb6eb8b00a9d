"""Linear combinations of sums over hospitals: what can be told apart by adding and subtracting them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from fractions import Fraction
from itertools import combinations


def rank(rows: Sequence[Sequence[int]]) -> int:
    """Rank over the rational numbers."""
    left, found = [[Fraction(x) for x in row] for row in rows], 0
    for column in range(len(left[0]) if left else 0):
        pivot = next((i for i in range(found, len(left)) if left[i][column]), None)
        if pivot is None:
            continue
        left[found], left[pivot] = left[pivot], left[found]
        for i in range(found + 1, len(left)):
            factor = left[i][column] / left[found][column]
            left[i] = [x - factor * y for x, y in zip(left[i], left[found], strict=True)]
        found += 1
    return found


def covers_at_least(sums: Collection[Collection[str]], honest: Sequence[str], least: int) -> bool:
    """Whether every combination of ``sums`` that is not zero has at least ``least`` of the ``honest`` in it."""
    rows = [[int(site in one) for site in honest] for one in sums]
    for few in combinations(range(len(honest)), least - 1):
        rest = [[x for i, x in enumerate(row) if i not in few] for row in rows]
        if rank(rest) < rank(rows):
            return False
    return True
