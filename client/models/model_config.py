"""Model configuration: ``config.json`` of a base model, read against an allow-list before any library sees it.

A model folder is foreign input. Model libraries act on configuration keys that fedward never needs (code to import,
kernels to fetch, other folders to load), so a key is either known here or the folder is refused.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from fedward.client.models.families import FAMILIES
from fedward.client.models.families.family import Family
from fedward.client.models.families.rules import refuse_unknown
from fedward.errors import ConfigError
from fedward.tasks.task import Head

MAX_CONFIG_BYTES = 256 * 1024


@dataclass(frozen=True, eq=False)
class ModelConfig:
    """The checked part of a model's configuration; two are equal if they describe the same model.

    Attributes:
        family: which architecture it is.
        hidden: width of the last hidden state.
        layers: number of transformer layers.
        vocabulary: rows of the word embedding.
        max_tokens: longest sequence, special tokens included.
        pad_id: token id used for padding.
        settings: exactly what the model class is constructed with; dropout is zero.
    """

    family: Family
    hidden: int
    layers: int
    vocabulary: int
    max_tokens: int
    pad_id: int
    settings: dict[str, Any]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ModelConfig) and self.family is other.family and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    @cached_property
    def _text(self) -> str:
        return json.dumps([self.family.name, self.settings], sort_keys=True)

    def check_head(self, head: Head) -> None:
        """Raises FW-MODEL-010 unless the family has a head of that kind."""
        if head.kind not in self.family.heads:
            offered = ", ".join(sorted(self.family.heads))
            raise ConfigError(
                f"The task needs a {head.kind!r} head, and {self.family.name!r} models have: {offered}.",
                code="FW-MODEL-010",
            )


def read_json_object(path: Path, limit: int) -> dict[str, Any]:
    """The JSON object in ``path``, a file of a model folder of at most ``limit`` bytes.

    Raises:
        ConfigError: FW-MODEL-001, missing, too large or not a JSON object.
    """
    try:
        with path.open("rb") as stream:
            raw = stream.read(limit + 1)
    except OSError as error:
        raise ConfigError(f"The model folder has no readable {path.name}.", code="FW-MODEL-001") from error
    if len(raw) > limit:
        raise ConfigError(f"The model's {path.name} is larger than {limit} bytes.", code="FW-MODEL-001")
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"The model's {path.name} is not valid JSON.", code="FW-MODEL-001") from error
    if not isinstance(document, dict):
        raise ConfigError(f"The model's {path.name} is not a JSON object.", code="FW-MODEL-001")
    return document


def read_model_config(path: Path) -> ModelConfig:
    """Parses ``path`` (a ``config.json``).

    Raises:
        ConfigError: FW-MODEL-001, missing, too large or not a JSON object.
        ConfigError: FW-MODEL-002, an architecture, key or value outside the allow-list.
    """
    return check_model_config(read_json_object(path, MAX_CONFIG_BYTES))


def check_model_config(document: dict[str, Any]) -> ModelConfig:
    """Checks every key and value of a parsed configuration; raises FW-MODEL-002."""
    model_type = document.get("model_type")
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        raise ConfigError(
            f"The model's architecture is not one of: {', '.join(sorted(FAMILIES))}.", code="FW-MODEL-002"
        )
    family = FAMILIES[model_type]
    known = family.settings.keys() | family.overridden.keys() | family.fixed.keys() | family.ignored
    refuse_unknown(set(document) - known)
    for key in sorted(family.fixed.keys() & document.keys()):
        family.fixed[key].check(key, document[key])
    if missing := sorted(family.required - set(document)):
        raise ConfigError(f"The model's config.json lacks {missing[0]!r}.", code="FW-MODEL-002")
    checked = {key: rule.check(key, document[key]) for key, rule in family.settings.items() if key in document}
    settings = {**family.defaults, **checked, **family.overridden}
    sizes = family.sizes(settings)
    pad_id = settings.get("pad_token_id") or 0
    if pad_id >= sizes.vocabulary:
        raise ConfigError("The model's padding token lies outside its vocabulary.", code="FW-MODEL-002")
    return ModelConfig(family, sizes.hidden, sizes.layers, sizes.vocabulary, sizes.max_tokens, pad_id, settings)
