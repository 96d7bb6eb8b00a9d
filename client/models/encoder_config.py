"""Reads ``config.json`` of a base model against an allow-list before any model library sees it.

A model folder is foreign input. Model libraries act on configuration keys that fedward never needs (code to import,
kernels to fetch, other folders to load), so a key is either known here or the folder is refused.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedward.client.models.families import ACTIVATIONS, FAMILIES, METADATA_KEYS, MUST_BE, Family
from fedward.errors import ConfigError

MAX_CONFIG_BYTES = 256 * 1024
MAX_INTEGER = 2**20


@dataclass(frozen=True)
class EncoderConfig:
    """The checked part of a model's configuration.

    Attributes:
        model_type: key of ``families.FAMILIES``.
        hidden: width of the last hidden state.
        layers: number of transformer layers.
        vocabulary: rows of the word embedding.
        max_tokens: longest sequence, special tokens included.
        pad_id: token id used for padding.
        settings: exactly what the model class is constructed with; dropout is zero.
    """

    model_type: str
    hidden: int
    layers: int
    vocabulary: int
    max_tokens: int
    pad_id: int
    settings: dict[str, Any]

    @property
    def family(self) -> Family:
        """The row of the family table."""
        return FAMILIES[self.model_type]


def read_encoder_config(path: Path) -> EncoderConfig:
    """Parses ``path`` (a ``config.json``).

    Raises:
        ConfigError: FW-MODEL-001, missing, too large or not a JSON object.
        ConfigError: FW-MODEL-002, an architecture, key or value outside the allow-list.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ConfigError("The model folder has no readable config.json.", code="FW-MODEL-001") from error
    if len(raw) > MAX_CONFIG_BYTES:
        raise ConfigError(f"The model's config.json is larger than {MAX_CONFIG_BYTES} bytes.", code="FW-MODEL-001")
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ConfigError("The model's config.json is not valid JSON.", code="FW-MODEL-001") from error
    if not isinstance(document, dict):
        raise ConfigError("The model's config.json is not a JSON object.", code="FW-MODEL-001")
    return check_encoder_config(document)


def check_encoder_config(document: dict[str, Any]) -> EncoderConfig:
    """Checks every key and value of a parsed configuration; raises FW-MODEL-002."""
    model_type = document.get("model_type")
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        raise ConfigError(
            f"The model's architecture is not one of: {', '.join(sorted(FAMILIES))}.", code="FW-MODEL-002"
        )
    family = FAMILIES[model_type]
    _check_keys(document, family)
    settings: dict[str, Any] = {key: _integer(document, key) for key in family.integers if key in document}
    settings |= {key: _fraction(document, key) for key in family.floats if key in document}
    settings |= dict.fromkeys(family.dropouts, 0.0)
    activation = family.names["activation"]
    settings[activation] = document.get(activation, "gelu")
    if settings[activation] not in ACTIVATIONS:
        raise ConfigError("The model's activation function is not on the allow-list.", code="FW-MODEL-002")
    hidden, layers, heads = (settings[family.names[name]] for name in ("hidden", "layers", "heads"))
    if hidden % heads:
        raise ConfigError("The model's hidden size is not a multiple of its attention heads.", code="FW-MODEL-002")
    pad_id = _integer(document, "pad_token_id", least=0) if document.get("pad_token_id") is not None else 0
    if pad_id >= settings["vocab_size"]:
        raise ConfigError("The model's padding token lies outside its vocabulary.", code="FW-MODEL-002")
    return EncoderConfig(
        model_type=model_type,
        hidden=hidden,
        layers=layers,
        vocabulary=settings["vocab_size"],
        max_tokens=settings["max_position_embeddings"] - family.position_offset,
        pad_id=pad_id,
        settings=settings | {"pad_token_id": pad_id},
    )


def _check_keys(document: dict[str, Any], family: Family) -> None:
    known = family.integers | family.floats | family.dropouts | METADATA_KEYS | set(MUST_BE)
    unknown = sorted(set(document) - known - {family.names["activation"]})
    if unknown:
        # The key comes from a foreign file: only a harmless-looking one is repeated on the terminal.
        shown = unknown[0] if unknown[0].isidentifier() and unknown[0].isascii() and len(unknown[0]) < 64 else "a key"
        raise ConfigError(
            f"The model's config.json has {shown!r}, which is not on the allow-list.", code="FW-MODEL-002"
        )
    for key, allowed in MUST_BE.items():
        if key in document and document[key] not in allowed:
            raise ConfigError(
                f"The model's config.json sets {key!r} to a value that is not supported.", code="FW-MODEL-002"
            )
    missing = sorted(family.required - set(document))
    if missing:
        raise ConfigError(f"The model's config.json lacks {missing[0]!r}.", code="FW-MODEL-002")


def _integer(document: dict[str, Any], key: str, *, least: int = 1) -> int:
    value = document[key]
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= MAX_INTEGER:
        raise ConfigError(
            f"The model's {key!r} is not a whole number between {least} and {MAX_INTEGER}.", code="FW-MODEL-002"
        )
    return value


def _fraction(document: dict[str, Any], key: str) -> float:
    value = document[key]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:
        raise ConfigError(f"The model's {key!r} is not a number between 0 and 1.", code="FW-MODEL-002")
    return float(value)
