"""Spans: identifiers found in a text, one after another, and the text with their classes in their places.

A language's rules read the text's shadow (:func:`fedward.client.data.text.shadow`); what they find is kept as places in
the text itself. The first rule that claims a place keeps it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from re import Pattern

from fedward.client.data.text import normal, shadow


@dataclass(frozen=True, slots=True)
class Span:
    """A removed identifier: class and half-open character range in the text's normal form C."""

    kind: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Scrubbed:
    """Text with ``[CLASS]`` in place of identifiers, and where they were."""

    text: str
    spans: tuple[Span, ...]


@dataclass
class Found:
    """What the rules have found so far in one text.

    Attributes:
        text: in normal form C.
        plain: its shadow.
        spans: identifiers that do not overlap, in the order in which they were found.
    """

    text: str
    plain: str = ""
    spans: list[Span] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.text = normal(self.text)
        self.plain, self._places = shadow(self.text)
        self._taken = bytearray(len(self.text))

    def add(self, kind: str, start: int, end: int) -> None:
        """Keeps a range of the shadow, unless something else was found there."""
        self.add_in_text(kind, self._places[start], self._places[end])

    def add_in_text(self, kind: str, start: int, end: int) -> None:
        """Keeps a range of the text itself, unless something else was found there."""
        if start < end and not any(self._taken[start:end]):
            self._taken[start:end] = b"\x01" * (end - start)
            self.spans.append(Span(kind, start, end))

    def add_all(self, rules: Mapping[str, Pattern[str]]) -> None:
        """Keeps what patterns find: the identifiers alone, where a pattern names them by groups."""
        for kind, pattern in rules.items():
            for match in pattern.finditer(self.plain):
                named = [name for name, value in match.groupdict().items() if value is not None]
                for start, end in [match.span(name) for name in named] or [match.span()]:
                    self.add(kind, start, end)

    def free(self, start: int, end: int) -> bool:
        """Whether nothing was found in a range of the text."""
        return not any(self._taken[start:end])

    def rest(self) -> str:
        """The text, of the same length, with blanks where something was found."""
        text = self.text
        for span in self.spans:
            text = text[: span.start] + " " * (span.end - span.start) + text[span.end :]
        return text

    def names(self) -> list[str]:
        """The shadows of the names that were found."""
        return [shadow(self.text[span.start : span.end])[0] for span in self.spans if span.kind == "NAME"]

    def scrubbed(self) -> Scrubbed:
        """The text with classes in place of identifiers."""
        self.spans.sort(key=lambda span: span.start)
        pieces, position = [], 0
        for span in self.spans:
            pieces += [self.text[position : span.start], f"[{span.kind}]"]
            position = span.end
        return Scrubbed("".join([*pieces, self.text[position:]]), tuple(self.spans))
