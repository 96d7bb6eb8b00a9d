"""Drops: what a reader leaves out of a table, counted by reason, and when that is too much. Imports no library."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from fedward.errors import DataError

MOST_DROPPED = 0.5
"""Share of a table's rows that may be unusable unless a hospital sets another limit, see :meth:`Drops.check`."""


@dataclass
class Drops:
    """What was read and left out: cells and rows by table and reason; stays on the machine that holds the data.

    Attributes:
        counts: what was left out.
        first: row of the first.
        expected: what good tables have, too, such as patients who are still in hospital: it counts for no limit.
        used: rows that were used, by table.
        remarks: what was read and is worth a look, by table, for example values in other units.
        parts: the table of a file that is one of many, such as those of an export in parts of some thousand rows.
    """

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    first: dict[tuple[str, str], int] = field(default_factory=dict)
    expected: set[tuple[str, str]] = field(default_factory=set)
    used: Counter[str] = field(default_factory=Counter)
    remarks: Counter[tuple[str, str]] = field(default_factory=Counter)
    parts: dict[str, str] = field(default_factory=dict)

    def add(
        self, table: str, reason: str, count: int = 1, row: int | None = None, *, expected: bool = False
    ) -> None:  # fmt: skip
        """Counts ``count`` more of ``table`` for ``reason``; ``row`` is where the first of them stands."""
        if count:
            self.counts[table, reason] += count
            if row is not None:
                self.first.setdefault((table, reason), row)
            if expected:
                self.expected.add((table, reason))

    def use(self, table: str, count: int = 1) -> None:
        """Counts rows of ``table`` that were used."""
        self.used[table] += count

    def remark(self, table: str, words: str, count: int = 1) -> None:
        """Counts rows of ``table`` that were read, of which somebody should know."""
        if count:
            self.remarks[table, words] += count

    def check(self, most: float = MOST_DROPPED, *, together: bool = False) -> None:
        """Refuses a table of which too little can be used; what good tables have, too, does not count.

        Args:
            most: share of the rows that may be unusable.
            together: whether the files of the set are one table.

        Raises:
            DataError: FW-DATA-019.
        """
        wrong = Counter({key: count for key, count in self.counts.items() if key not in self.expected})
        whole = {
            each: "" if together else self.parts.get(each, each) for each in (*self.used, *(key[0] for key in wrong))
        }
        for name in dict.fromkeys(whole.values()):
            reasons = Counter({key: count for key, count in wrong.items() if whole[key[0]] == name})
            dropped, used = reasons.total(), sum(count for each, count in self.used.items() if whole[each] == name)
            if dropped and dropped > most * (dropped + used):
                raise self._too_many(reasons, dropped, dropped + used, most)

    def _too_many(self, reasons: Counter[tuple[str, str]], dropped: int, total: int, most: float) -> DataError:
        (table, reason), _ = reasons.most_common(1)[0]
        row = self.first.get((table, reason))
        whole, file = self.parts.get(table, table), f" of {table}" if table in self.parts else ""
        where = "" if row is None else f", first in row {row:,}{file}"
        return DataError(
            f"{dropped:,} of {total:,} rows of {whole} cannot be used, more than the share of {most:g} that may be: "
            f"{reason}{where}.",
            code="FW-DATA-019",
        )

    def to_value(self) -> list[dict[str, Any]]:
        """Returns the counts as JSON-ready values, sorted."""
        return [
            {"table": table, "reason": reason, "count": count, "first_row": self.first.get((table, reason))}
            for (table, reason), count in sorted(self.counts.items())
        ]
