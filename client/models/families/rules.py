"""Rules for the values in a model's ``config.json``: type and range of each allowed key.

The file is foreign input. A value that passes its rule has exactly the expected type: a truth value is no number, a
number no text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from fedward.errors import ConfigError

MAX_INTEGER = 2**20


class Rule(Protocol):
    """What the value of one key may be."""

    def check(self, key: str, value: Any) -> Any:
        """The value as the model class gets it; raises FW-MODEL-002. ``key`` is one of the allow-list."""


@dataclass(frozen=True)
class Whole:
    """A whole number from ``least`` to ``most``."""

    least: int = 1
    most: int = MAX_INTEGER

    def check(self, key: str, value: Any) -> int:
        """See :class:`Rule`."""
        if type(value) is not int or not self.least <= value <= self.most:
            raise ConfigError(
                f"The model's {key!r} is not a whole number between {self.least} and {self.most}.", code="FW-MODEL-002"
            )
        return value


@dataclass(frozen=True)
class Number:
    """A number above ``low`` and below ``high``."""

    low: float = 0.0
    high: float = 1.0

    def check(self, key: str, value: Any) -> float:
        """See :class:`Rule`."""
        if type(value) not in (int, float) or not self.low < value < self.high:
            raise ConfigError(
                f"The model's {key!r} is not a number between {self.low:g} and {self.high:g}.", code="FW-MODEL-002"
            )
        return float(value)


@dataclass(frozen=True)
class Choice:
    """One of a few values."""

    values: tuple[str | bool | int | None, ...]

    def check(self, key: str, value: Any) -> Any:
        """See :class:`Rule`."""
        if not any(type(value) is type(allowed) and value == allowed for allowed in self.values):
            raise ConfigError(
                f"The model's config.json sets {key!r} to a value that is not supported.", code="FW-MODEL-002"
            )
        return value


@dataclass(frozen=True)
class Optional:
    """A value, or null in its place, for which the model class gets ``default``."""

    rule: Rule
    default: Any = None

    def check(self, key: str, value: Any) -> Any:
        """See :class:`Rule`."""
        return self.default if value is None else self.rule.check(key, value)


@dataclass(frozen=True)
class Section:
    """An object with an allow-list of its own.

    Attributes:
        rules: allowed key -> what its value may be.
        required: keys that must be there.
    """

    rules: Mapping[str, Rule]
    required: frozenset[str] = field(default_factory=frozenset)

    def check(self, key: str, value: Any) -> dict[str, Any]:
        """See :class:`Rule`."""
        if type(value) is not dict:
            raise ConfigError(f"The model's {key!r} is not an object.", code="FW-MODEL-002")
        refuse_unknown(set(value) - set(self.rules))
        if missing := sorted(self.required - set(value)):
            raise ConfigError(f"The model's {key!r} lacks {missing[0]!r}.", code="FW-MODEL-002")
        return {name: self.rules[name].check(name, each) for name, each in value.items()}


ACTIVATION = Choice(("gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "silu", "tanh"))
"""Activation functions of the model library that have no state and fetch nothing."""

LAYERS = Whole(1, 512)
"""Number of layers; each is built, on no device, before the weights are compared with it."""


def refuse_unknown(keys: set[str]) -> None:
    """Raises FW-MODEL-002 if there are any; they come from a foreign file."""
    if keys:
        first = min(keys)
        # Only a harmless-looking key is repeated on the terminal.
        shown = first if first.isidentifier() and first.isascii() and len(first) < 64 else "a key"
        raise ConfigError(
            f"The model's config.json has {shown!r}, which is not on the allow-list.", code="FW-MODEL-002"
        )
