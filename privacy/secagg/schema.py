"""Typed messages with hard caps: one frozen dataclass per message, one checker in each field's annotation.

A message is a CBOR map whose keys are exactly the field names. Unknown or missing keys, a value of
another type and anything beyond a cap raise :class:`~fedward.messages.MalformedMessageError` before
the value is used. Decoding an encoded message gives an equal message, and the encoding is canonical
(RFC 8949 section 4.2.1), so equal messages have equal bytes.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Protocol, Self, get_type_hints

from fedward.messages import MAX_CONTROL_BYTES, MalformedMessageError, Value, decode, encode

MAX_SITES = 128
"""Largest roster: the complete graph is meant for about a hundred hospitals."""

_SITE = re.compile(r"[a-z0-9-]{1,64}")
_BYTES = frozenset({bytes})


class Check(Protocol):
    """Turns a decoded CBOR value into a field and back, or refuses it."""

    def load(self, value: Value) -> Any:
        """Returns the field for ``value``, or raises MalformedMessageError."""

    def dump(self, item: Any) -> Value:
        """Returns the CBOR value of a field."""


@dataclasses.dataclass(frozen=True)
class Bytes:
    """A byte string of ``least`` to ``most`` bytes."""

    least: int
    most: int

    def load(self, value: Value) -> bytes:
        """Checks type and length."""
        if not isinstance(value, bytes) or not self.least <= len(value) <= self.most:
            raise MalformedMessageError(f"A field is not a byte string of {self.least} to {self.most} bytes.")
        return value

    def fits_all(self, values: Collection[object]) -> bool:
        """Says whether :meth:`load` would accept each of several values, without a call for each."""
        if not _BYTES.issuperset(map(type, values)):
            return False
        lengths = set(map(len, values))  # type: ignore[arg-type]  # all are bytes here
        return not lengths or (self.least <= min(lengths) and max(lengths) <= self.most)

    def dump(self, item: bytes) -> Value:
        """Checks what is about to be sent, too."""
        return self.load(item)


@dataclasses.dataclass(frozen=True)
class Text:
    """Text of at most ``most`` characters that matches ``pattern``."""

    most: int
    pattern: re.Pattern[str] | None = None

    def load(self, value: Value) -> str:
        """Checks type, length and alphabet."""
        if not isinstance(value, str) or len(value) > self.most:
            raise MalformedMessageError(f"A field is not text of at most {self.most} characters.")
        if self.pattern is not None and self.pattern.fullmatch(value) is None:
            raise MalformedMessageError("A name holds a character outside the allowed alphabet.")
        return value

    def dump(self, item: str) -> Value:
        """Checks what is about to be sent, too."""
        return self.load(item)


@dataclasses.dataclass(frozen=True)
class Uint:
    """An integer from 0 to ``most``."""

    most: int = 2**63 - 1

    def load(self, value: Value) -> int:
        """Checks type (a boolean is no integer here) and range."""
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= self.most:
            raise MalformedMessageError(f"A field is not an integer from 0 to {self.most}.")
        return value

    def dump(self, item: int) -> Value:
        """Checks what is about to be sent, too."""
        return self.load(item)


@dataclasses.dataclass(frozen=True)
class Flag:
    """True or false."""

    def load(self, value: Value) -> bool:
        """Checks the type."""
        if not isinstance(value, bool):
            raise MalformedMessageError("A field is neither true nor false.")
        return value

    def dump(self, item: bool) -> Value:
        """Checks what is about to be sent, too."""
        return self.load(item)


@dataclasses.dataclass(frozen=True)
class Sequence:
    """At most ``most`` items of one kind; a tuple inside, a list on the wire."""

    item: Check
    most: int = MAX_SITES

    def load(self, value: Value) -> tuple[Any, ...]:
        """Checks the count, then every item."""
        if not isinstance(value, list) or len(value) > self.most:
            raise MalformedMessageError(f"A field is not a list of at most {self.most} items.")
        return tuple(self.item.load(one) for one in value)

    def dump(self, item: tuple[Any, ...]) -> Value:
        """Returns a list."""
        if len(item) > self.most:
            raise MalformedMessageError(f"A field is not a list of at most {self.most} items.")
        return [self.item.dump(one) for one in item]


@dataclasses.dataclass(frozen=True)
class Map:
    """At most ``most`` entries from a name to items of one kind."""

    item: Check
    key: Text = dataclasses.field(default_factory=lambda: Text(64, _SITE))
    most: int = MAX_SITES

    def load(self, value: Value) -> dict[str, Any]:
        """Checks the count, then every key and item; iteration order is by name."""
        if not isinstance(value, dict) or len(value) > self.most:
            raise MalformedMessageError(f"A field is not a map of at most {self.most} entries.")
        if self._fits(value):
            return {name: value[name] for name in sorted(value)}
        return {self.key.load(name): self.item.load(value[name]) for name in sorted(value)}

    def dump(self, item: Mapping[str, Any]) -> Value:
        """Returns a map."""
        if len(item) > self.most:
            raise MalformedMessageError(f"A field is not a map of at most {self.most} entries.")
        if self._fits(item):
            return dict(item)
        return {str(self.key.dump(name)): self.item.dump(one) for name, one in item.items()}

    def _fits(self, entries: Mapping[str, Any]) -> bool:
        """The same checks for a whole map of byte strings; names and hashes are most of what a round parses."""
        return (
            isinstance(self.item, Bytes)
            and self.item.fits_all(entries.values())
            and _names_fit(self.key, tuple(entries))
        )


@lru_cache(maxsize=64)
def _names_fit(key: Text, names: tuple[str, ...]) -> bool:
    """Whether all names pass; remembered, because a round repeats the names of its cohort in every message."""
    try:
        return all(key.load(name) is name for name in names)
    except MalformedMessageError:
        return False


@dataclasses.dataclass(frozen=True)
class Nested:
    """Another message inside this one."""

    kind: type[Message]

    def load(self, value: Value) -> Message:
        """Checks the inner message field by field."""
        return self.kind.from_value(value)

    def dump(self, item: Message) -> Value:
        """Returns the map of the inner message."""
        return item.to_value()


@dataclasses.dataclass(frozen=True)
class Opaque:
    """Any CBOR value; whoever uses it checks it (the vector layout does)."""

    def load(self, value: Value) -> Value:
        """Returns the value unchanged."""
        return value

    def dump(self, item: Value) -> Value:
        """Returns the value unchanged."""
        return item


SITE = Text(64, _SITE)
DIGEST = Bytes(32, 32)
SIGNATURE = Bytes(64, 64)


Site = Annotated[str, SITE]
Digest = Annotated[bytes, DIGEST]
Signature = Annotated[bytes, SIGNATURE]


_CHECKS: dict[type[Message], dict[str, Check]] = {}


def _checks(kind: type[Message]) -> dict[str, Check]:
    """Returns the checker of each field, which stands in its annotation."""
    if kind not in _CHECKS:
        hints = get_type_hints(kind, include_extras=True)
        _CHECKS[kind] = {field.name: hints[field.name].__metadata__[0] for field in dataclasses.fields(kind)}
    return _CHECKS[kind]


@dataclasses.dataclass(frozen=True)
class Message:
    """Base of every message: canonical bytes out, checked bytes in."""

    LIMIT: ClassVar[int] = MAX_CONTROL_BYTES

    def to_value(self) -> dict[str, Value]:
        """Returns the map of this message."""
        return {name: check.dump(getattr(self, name)) for name, check in _checks(type(self)).items()}

    def to_bytes(self) -> bytes:
        """Returns the canonical encoding."""
        return encode(self.to_value())

    @classmethod
    def from_value(cls, value: Value) -> Self:
        """Builds the message from a decoded map; raises MalformedMessageError."""
        checks = _checks(cls)
        if not isinstance(value, dict) or value.keys() != checks.keys():
            raise MalformedMessageError(f"A {cls.__name__} message has missing or unknown keys.")
        return cls(**{name: check.load(value[name]) for name, check in checks.items()})

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Parses canonical bytes; raises MalformedMessageError."""
        return cls.from_value(decode(data, limit=cls.LIMIT))
