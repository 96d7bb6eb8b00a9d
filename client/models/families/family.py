"""Model family: what a model folder of one architecture may contain, and where the parts of its models lie.

A family is data and a few functions, in one file. What its ``config.json`` may ask for is security code: the file is
foreign input, and a key is passed on only if ``settings`` has a rule for it. A value that passes its rule has exactly
the expected type: a truth value is no number, a number no text.

How outputs look, by the kind of head (:class:`~fedward.tasks.task.Head`), for token ids ``[B, T]``:

* ``sequence``: ``[B]``, or ``[B, outputs]`` if there are several; a linear layer on one vector per text.
* ``token``: ``[B, T, outputs]``; the same on every token.
* ``causal``, ``masked``, ``seq2seq``: ``[B, T, vocabulary]``, the language model's own output. No linear layer is
  trained, and ``heads`` names the model class that has this output.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from fedward.errors import ConfigError
from fedward.tasks.task import HeadKind

if TYPE_CHECKING:
    from torch import Tensor, nn

Settings = Mapping[str, Any]
MAX_INTEGER = 2**20


def refused(told: str) -> ConfigError:
    """FW-MODEL-002: a configuration outside the allow-list."""
    return ConfigError(told, code="FW-MODEL-002")


def refuse_unknown(keys: set[str]) -> None:
    """Raises FW-MODEL-002 if there are any; they come from a foreign file."""
    if keys:
        first = min(keys)
        # Only a harmless-looking key is repeated on the terminal.
        shown = first if first.isidentifier() and first.isascii() and len(first) < 64 else "a key"
        raise refused(f"The model's config.json has {shown!r}, which is not on the allow-list.")


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
            raise refused(f"The model's {key!r} is not a whole number between {self.least} and {self.most}.")
        return value


@dataclass(frozen=True)
class Number:
    """A number above ``low`` and below ``high``."""

    low: float = 0.0
    high: float = 1.0

    def check(self, key: str, value: Any) -> float:
        """See :class:`Rule`."""
        if type(value) not in (int, float) or not self.low < value < self.high:
            raise refused(f"The model's {key!r} is not a number between {self.low:g} and {self.high:g}.")
        return float(value)


@dataclass(frozen=True)
class Choice:
    """One of a few values."""

    values: tuple[str | bool | int | None, ...]

    def check(self, key: str, value: Any) -> Any:
        """See :class:`Rule`."""
        if not any(type(value) is type(allowed) and value == allowed for allowed in self.values):
            raise refused(f"The model's config.json sets {key!r} to a value that is not supported.")
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
class Several:
    """A list of at most ``most`` values under one rule."""

    rule: Rule
    most: int = 512

    def check(self, key: str, value: Any) -> list[Any]:
        """See :class:`Rule`."""
        if type(value) is not list or len(value) > self.most:
            raise refused(f"The model's {key!r} is not a list of at most {self.most} values.")
        return [self.rule.check(key, each) for each in value]


@dataclass(frozen=True)
class Either:
    """A list, or something that is none."""

    single: Rule
    several: Several

    def check(self, key: str, value: Any) -> Any:
        """See :class:`Rule`."""
        return (self.several if type(value) is list else self.single).check(key, value)


@dataclass(frozen=True)
class Section:
    """An object with an allow-list of its own, and the keys that must be there."""

    rules: Mapping[str, Rule]
    required: frozenset[str] = frozenset()

    def check(self, key: str, value: Any) -> dict[str, Any]:
        """See :class:`Rule`."""
        if type(value) is not dict:
            raise refused(f"The model's {key!r} is not an object.")
        refuse_unknown(set(value) - set(self.rules))
        if missing := sorted(self.required - set(value)):
            raise refused(f"The model's {key!r} lacks {missing[0]!r}.")
        return {name: self.rules[name].check(name, each) for name, each in value.items()}


ACTIVATION = Choice(("gelu", "gelu_new", "gelu_pytorch_tanh", "relu", "silu", "tanh"))
"""Activation functions of the model library that have no state and fetch nothing."""

LAYERS = Whole(1, 512)
"""Number of layers; each is built, on no device, before the weights are compared with it."""

IGNORED_KEYS = frozenset({
    "_name_or_path", "_num_labels", "architectures", "bos_token_id", "classifier_dropout", "directionality", "dtype",
    "eos_token_id", "finetuning_task", "gradient_checkpointing", "id2label", "label2id", "model_type", "num_labels",
    "output_past", "pooler_fc_size", "pooler_num_attention_heads", "pooler_num_fc_layers", "pooler_size_per_head",
    "pooler_type", "problem_type", "tie_word_embeddings", "torch_dtype", "transformers_version", "use_cache",
})  # fmt: skip
"""Keys that published configurations carry and that a forward pass does not need: read, never passed on."""

FIXED_KEYS = {key: Choice((False,)) for key in ("add_cross_attention", "is_decoder", "is_encoder_decoder")}
"""Keys that change the computation: accepted only with the value fedward computes with, never passed on."""

Pooling = Literal["mean", "sum", "last"]
"""The vector of a text: the mean or a tenth of the sum over its tokens, or the last token."""

POOLING_KEY = "fedward_pooling"
"""Key of ``config.json`` by which an encoder that was pre-trained for it asks for the sum."""

LANGUAGE_HEADS: tuple[HeadKind, ...] = ("causal", "masked", "seq2seq")
"""Heads that are the language model's own output."""

OUTSIDE = r"(cls|classifier|pre_classifier|lm_head|vocab_\w+|qa_outputs|pooler|embeddings\.position_ids)\b"
"""Parts of published checkpoints beside the model without a head: task heads, the pooler, and position indices."""


@dataclass(frozen=True)
class Sizes:
    """Sizes of a model that others need to know; derived from its settings by the family."""

    hidden: int  # width of the last hidden state
    layers: int
    vocabulary: int  # rows of the word embedding
    max_tokens: int  # longest sequence, special tokens included


class LayerByLayer(Protocol):
    """A model's forward pass in steps, so that layers that are never trained are computed once and kept."""

    def embed(self, base: nn.Module, ids: Tensor) -> Tensor:
        """Input of the first layer, ``[B, T, hidden]``, of token ids int64 ``[B, T]``."""

    def run(self, base: nn.Module, layers: Sequence[nn.Module], hidden: Tensor, attention_mask: Tensor) -> Tensor:
        """Output of ``layers``, some successive layers of ``base``, on their input ``[B, T, hidden]``."""

    def finish(self, base: nn.Module, hidden: Tensor) -> Tensor:
        """The last hidden state, from the output of the last layer."""


@dataclass(frozen=True)
class Family:
    """One architecture. A task that needs another kind of head is refused."""

    name: str  # model_type in config.json
    heads: Mapping[HeadKind, str]  # kind of head -> class in transformers that it stands on
    settings: Mapping[str, Rule]  # allowed key of config.json -> what its value may be; these are passed on
    required: frozenset[str]  # keys among them that must be present
    sizes: Callable[[Settings], Sizes]  # of a model, from checked settings; FW-MODEL-002 if they do not go together
    layers_path: str  # attribute path of the list of layers, also the prefix of their tensor names
    targets: Mapping[str, str]  # generic LoRA target -> module path inside a layer, of any (transposed) linear map
    layer_by_layer: LayerByLayer | None = None  # to run some layers alone; else frozen ones are run in every step
    encoder: str = ""  # attribute path of an encoder that reads another text first; its layers are never adapted
    body: str = ""  # attribute path of the model without a head inside the class of a language model's head
    output: str = "lm_head"  # attribute path of that head: the map to the vocabulary
    output_bias: str = ""  # attribute path of its bias, where the map itself has none
    transform: Callable[[Any, Tensor], Tensor] | None = None
    """What stands before that map: of the model under its head, and of last hidden states ``[M, hidden]``."""
    pooling: Pooling = "mean"  # how a sequence head reads a text
    padding: Literal["right", "left"] = "right"  # of shorter texts; with "left", positions must be relative
    template: Callable[[Sequence[tuple[str, str]]], str] | None = None
    """Text of a conversation, turns of (role, text), as the family's models were taught to read it."""
    defaults: Settings = field(default_factory=dict)  # for absent keys, where those of transformers will not do
    overridden: Settings = field(default_factory=dict)
    """Keys that may be present, and the value that is passed on whatever they say. Dropout is zero: under per-unit
    clipping it only adds noise."""
    fixed: Mapping[str, Choice] = field(default_factory=lambda: FIXED_KEYS)  # may be present, but with this value only
    ignored: frozenset[str] = IGNORED_KEYS  # keys that may be present and are never passed on
    options: Settings = field(default_factory=dict)  # keyword arguments of the class of the model without a head
    prefix: str = ""  # of the model's tensors in checkpoints that also hold a task head
    outside: re.Pattern[str] = field(default_factory=lambda: re.compile(OUTSIDE))
    """Tensors in a checkpoint that are no part of the model without a head, after the prefix."""

    def inside(self, kind: HeadKind) -> str:
        """Prefix of the names of all parts of the model without a head, in a model under a head of ``kind``."""
        return f"{self.body}." if self.body and kind in LANGUAGE_HEADS else ""

    def layers_at(self, kind: HeadKind) -> str:
        """:attr:`layers_path` in a model under a head of ``kind``."""
        return self.inside(kind) + self.layers_path
