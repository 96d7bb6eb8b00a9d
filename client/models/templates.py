"""Chat template: how a conversation becomes tokens, and which of them a language model learns to say.

The template in a model folder is a program of a foreign author. None is ever run: what is allowed is a list, each entry
written here as data and recognised by its text, quotation marks and blanks apart. Marks of structure are added as token
ids; text of a record is encoded without them, so nothing that somebody wrote becomes structure.

Loss is taken on what the assistant says and on the token that ends it, never on anybody else's words.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from fedward.client.corpora.corpus import Turn
from fedward.client.models.families.family import LANGUAGE_HEADS
from fedward.client.models.registry import ModelFiles, damaged, json_object
from fedward.client.models.tokens import load_tokenizer
from fedward.errors import ConfigError, DataError

MAX_TOKENIZER_CONFIG_BYTES = 4 * 2**20
SMOLLM2_SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"


@dataclass(frozen=True)
class Mark:
    """A special token by its text; an empty text stands for the tokenizer's end of text."""

    text: str = ""


Piece = str | Mark
ROLE = "{role}"


@dataclass(frozen=True)
class Template:
    """One way to write a conversation."""

    name: str
    source: str = ""  # the program that model folders carry for it
    begins: bool = False  # whether the begin token stands before the first turn, even if the tokenizer puts none there
    opens: tuple[Piece, ...] = ()  # before a turn's text; ``{role}`` is replaced
    closes: tuple[Piece, ...] = ()  # after it; the first piece ends what is said
    closes_others: tuple[Piece, ...] | None = None  # after a turn of somebody else, where that differs
    trims: bool = False  # whether blanks around a turn's text are dropped
    system: bool = True  # whether a conversation may begin with instructions of the system
    default_system: str = ""  # what such instructions are where a conversation has none

    def after(self, turn: Turn) -> tuple[Piece, ...]:
        """What follows a turn's text."""
        others = self.closes if self.closes_others is None else self.closes_others
        return self.closes if turn.role == "assistant" else others


_IM_TURN = "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
_IM_LOOP = (
    "{% for message in messages %}" + _IM_TURN + "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
_IM_NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
_IM_SMOLLM2 = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\\n"
    + SMOLLM2_SYSTEM
    + "<|im_end|>\\n' }}{% endif %}"
    + _IM_TURN
    + "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
_HEADER = "'<|start_header_id|>' + {} + '<|end_header_id|>\\n\\n'"
_LLAMA3 = (
    "{{ bos_token }}{% for message in messages %}{{ "
    + _HEADER.format("message['role']")
    + " + message['content'] | trim"
    " + '<|eot_id|>' }}{% endfor %}{% if add_generation_prompt %}{{ " + _HEADER.format("'assistant'") + " }}{% endif %}"
)
_IM: dict[str, Any] = {"opens": (Mark("<|im_start|>"), f"{ROLE}\n"), "closes": (Mark("<|im_end|>"), "\n")}

PLAIN = Template("plain", closes=(Mark(),), closes_others=("\n",))
"""For models without a template: turns line by line, each answer followed by the end of text."""

TEMPLATES = (
    Template("chatml", _IM_LOOP, **_IM),
    Template("no-system", _IM_NO_SYSTEM + _IM_LOOP, system=False, **_IM),
    Template("smollm2", _IM_SMOLLM2, default_system=SMOLLM2_SYSTEM, **_IM),
    Template(
        "llama3",
        _LLAMA3,
        opens=(Mark("<|start_header_id|>"), ROLE, Mark("<|end_header_id|>"), "\n\n"),
        closes=(Mark("<|eot_id|>"),),
        begins=True,
        trims=True,
    ),
)


_STATEMENT = re.compile(r"\{[{%].*?[%}]\}", re.DOTALL)
_WORDS = re.compile(r"""'[^']*'|"[^"]*\"""")


def _normal(source: str) -> str:
    """The program without blanks, with one kind of quotation marks; a line break in a text is spelled as one."""

    def spell(statement: re.Match[str]) -> str:
        return _WORDS.sub(lambda words: words[0].replace("\n", "\\n"), statement[0])

    spelled = _STATEMENT.sub(spell, source)
    return "".join(spelled.replace('"', "'").split())


_BY_SOURCE = {_normal(template.source): template for template in TEMPLATES}


def template_of(files: ModelFiles) -> Template:
    """The template of a model folder, which is never run; raises FW-MODEL-011 (not one that is known by its text)."""
    source = _tokenizer_config(files).get("chat_template")
    apart = files.folder / "chat_template.json"
    if apart.is_file():
        source = json_object(apart, MAX_TOKENIZER_CONFIG_BYTES).get("chat_template", source)
    if (files.folder / "chat_template.jinja").is_file():
        source = (files.folder / "chat_template.jinja").read_text(encoding="utf-8")[:MAX_TOKENIZER_CONFIG_BYTES]
    if source is None:
        return PLAIN
    found = _BY_SOURCE.get(_normal(source)) if isinstance(source, str) else None
    if found is None:
        names = ", ".join(template.name for template in TEMPLATES)
        told = f"The chat template of the model {files.name!r} is none of those that are known: {names}."
        raise ConfigError(told, code="FW-MODEL-011")
    return found


def check_template(files: ModelFiles) -> None:
    """Raises FW-MODEL-011 for a language model whose template is unknown; other models have none."""
    if set(LANGUAGE_HEADS) & set(files.config().family.heads):
        template_of(files)


def _tokenizer_config(files: ModelFiles) -> dict[str, Any]:
    path = files.folder / "tokenizer_config.json"
    return json_object(path, MAX_TOKENIZER_CONFIG_BYTES) if path.is_file() else {}


_NAMED = ("bos_token", "eos_token", "pad_token", "mask_token", "cls_token", "sep_token")
"""Tokens that ``tokenizer_config.json`` gives a part in the structure of a text."""


def _named_tokens(files: ModelFiles) -> dict[str, str]:
    """The texts of these tokens, by name."""
    config, found = _tokenizer_config(files), {}
    for name in _NAMED:
        named = config.get(name)
        text = named.get("content") if isinstance(named, dict) else named
        if isinstance(text, str) and text:
            found[name] = text
    return found


@dataclass(frozen=True)
class Written:
    """A record as token ids, and which of them are to be predicted."""

    ids: list[int]
    scored: list[bool]

    def __len__(self) -> int:
        return len(self.ids)


class Writer:
    """Writes conversations and running texts as tokens of one base model.

    Raises FW-MODEL-011 (its template is unknown, or needs marks that the tokenizer lacks).
    """

    def __init__(self, files: ModelFiles) -> None:
        self._files, self.template = files, template_of(files)
        self._tokenizer = load_tokenizer(files)
        pieces = (*self.template.opens, *self.template.closes, Mark())
        marks = {piece.text or self._end_of_text for piece in pieces if isinstance(piece, Mark)}
        self._tokenizer = _with_marks(self._tokenizer, marks | set(_named_tokens(files).values()))
        # Special tokens in a text are spelled out in ordinary ones.
        self._tokenizer.encode_special_tokens = True
        self._begin = _begin_ids(self._tokenizer)
        for piece in (*self.template.opens, *self.template.closes):
            if isinstance(piece, Mark):
                self._id(piece)

    def conversation(self, turns: Sequence[Turn]) -> Written:
        """Tokens of a conversation: every turn of the assistant is scored with its end, and nothing else is.

        Raises FW-DATA-036 (instructions of the system where the template has no place for them).
        """
        template = self.template
        if turns and turns[0].role == "system" and not template.system:
            told = f"A conversation begins with instructions of the system; the template {template.name!r} has none."
            raise DataError(told, code="FW-DATA-036")
        if template.default_system and (not turns or turns[0].role != "system"):
            turns = [Turn("system", template.default_system), *turns]
        ids = list(self._begin or self._begin_of_template)
        scored = [False] * len(ids)
        for turn in turns:
            for part, said in self._turn(turn):
                ids += part
                scored += [said] * len(part)
        return Written(ids, scored)

    def prompt(self, turns: Sequence[Turn]) -> list[int]:
        """Tokens of a conversation that the assistant is to continue."""
        opening = [id_ for piece in self.template.opens for id_ in self._ids(piece, "assistant")]
        return self.conversation(turns).ids + opening

    def answered(self, turns: Sequence[Turn], answer: str, *, ended: bool = True) -> Written:
        """Tokens of a conversation and an answer to it, which alone is scored, with its end if ``ended``."""
        before = self.prompt(turns)
        said = self._spell(answer.strip() if self.template.trims else answer)
        said += self._ids(self.template.closes[0], "assistant") if ended else []
        return Written([*before, *said], [False] * len(before) + [True] * len(said))

    def continued(self, before: str, said: str) -> Written:
        """Tokens of a running text, of which what follows ``before`` is scored.

        The text is encoded whole, as evaluation harnesses do: the part that is scored are the tokens beyond as many as
        ``before`` has alone.
        """
        ids = [*self._begin, *self._spell(before + said)]
        known = min(len(self._begin) + len(self._spell(before)), len(ids) - 1)
        return Written(ids, [place >= known for place in range(len(ids))])

    def text(self, text: str, *, ended: bool = True) -> Written:
        """Tokens of a running text, all of them scored, with the end of text unless it goes on."""
        said = self._spell(text) + ([self._id(Mark())] if ended else [])
        return Written([*self._begin, *said], [False] * len(self._begin) + [True] * len(said))

    def whole(self, text: str) -> Written:
        """Tokens of a text between the marks that the tokenizer puts around it, which are not scored."""
        encoding = self._tokenizer.encode(text)
        return Written(list(encoding.ids), [not mark for mark in encoding.special_tokens_mask])

    @property
    def has_encoder(self) -> bool:
        """Whether the model reads the prompt with an encoder of its own."""
        return bool(self._files.config().family.encoder)

    def answer(self, text: str) -> Written:
        """Tokens of what a decoder is to say: the text between its marks, of which the last, its end, is scored."""
        said = self.whole(text)
        ids = said.ids if said.ids and not said.scored[-1] else [*said.ids, self._id(Mark())]
        return Written(ids, [*said.scored[: len(ids) - 1], True])

    @cached_property
    def start(self) -> int:
        """The id that a decoder reads before its first word."""
        settings = self._files.config().settings
        return int(settings["decoder_start_token_id"])

    @property
    def opening(self) -> list[int]:
        """What a decoder with an encoder beside it reads before the first word of an answer."""
        return [self.start, *self._begin]

    @cached_property
    def mask(self) -> int:
        """The id that stands for a hidden token; raises FW-MODEL-001 (the model folder does not say which)."""
        for known in (_named_tokens(self._files).get("mask_token", ""), "[MASK]", "<mask>"):
            found = self._tokenizer.token_to_id(known)
            if found is not None:
                return int(found)
        raise damaged("The model folder does not say which token stands for a hidden word.")

    @cached_property
    def words(self) -> NDArray[np.int64]:
        """Ids of all tokens that are no marks, in ascending order."""
        added = self._tokenizer.get_added_tokens_decoder().items()
        marks = {id_ for id_, token in added if token.special} | {self._files.config().pad_id}
        return np.array(sorted(set(self._tokenizer.get_vocab().values()) - marks), np.int64)

    @cached_property
    def ends(self) -> frozenset[int]:
        """Token ids that end what a model says: those of the template and the tokenizer, and all that the folder lists.

        Llama 3 has two, and only one of them stands in its tokenizer's configuration.
        """
        first = self.template.closes[0]
        listed = {id_ for name in ("config.json", "generation_config.json") for id_ in self._listed_ends(name)}
        return frozenset({self._id(first)} if isinstance(first, Mark) else set()) | {self._id(Mark()), *listed}

    @cached_property
    def known(self) -> frozenset[int]:
        """Token ids that stand for something; a model may have more rows."""
        return frozenset(self._tokenizer.get_vocab().values())

    def read(self, ids: Sequence[int]) -> str:
        """The text of token ids, without marks of structure."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))

    def _listed_ends(self, name: str) -> list[int]:
        path = self._files.folder / name
        named = json_object(path, MAX_TOKENIZER_CONFIG_BYTES).get("eos_token_id") if path.is_file() else None
        ids = named if isinstance(named, list) else [named]
        return [id_ for id_ in ids if type(id_) is int and id_ in self.known]

    def _turn(self, turn: Turn) -> Iterator[tuple[list[int], bool]]:
        said = turn.role == "assistant"
        for piece in self.template.opens:
            yield self._ids(piece, turn.role), False
        yield self._spell(turn.text.strip() if self.template.trims else turn.text), said
        for place, piece in enumerate(self.template.after(turn)):
            yield self._ids(piece, turn.role), said and place == 0

    def _ids(self, piece: Piece, role: str) -> list[int]:
        return [self._id(piece)] if isinstance(piece, Mark) else self._spell(piece.replace(ROLE, role))

    def _spell(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def _id(self, mark: Mark) -> int:
        text = mark.text or self._end_of_text
        found = self._tokenizer.token_to_id(text)
        if found is None:
            told = f"The template {self.template.name!r} needs the token {text!r}, which the model's tokenizer lacks."
            raise ConfigError(told, code="FW-MODEL-011")
        return int(found)

    @cached_property
    def _begin_of_template(self) -> list[int]:
        """The begin token that the template writes itself; none where the model folder names none, as there."""
        named = self._tokenizer.token_to_id(_named_tokens(self._files).get("bos_token", ""))
        if not self.template.begins or named is None:
            return []
        return [int(named)]

    @cached_property
    def _end_of_text(self) -> str:
        text = _named_tokens(self._files).get("eos_token")
        if text is not None:
            return text
        first = _first(json_object(self._files.folder / "config.json", MAX_TOKENIZER_CONFIG_BYTES).get("eos_token_id"))
        spelled = None if first is None else self._tokenizer.id_to_token(first)
        if spelled is None:
            raise damaged("The model folder does not say which token ends a text.")
        return str(spelled)


def _first(value: Any) -> int | None:
    """A token id, or the first of several."""
    first = value[0] if isinstance(value, list) and value else value
    return first if type(first) is int and first >= 0 else None


def _with_marks(tokenizer: Tokenizer, marks: Collection[str]) -> Tokenizer:
    """The tokenizer that takes none of ``marks`` out of a text: some files list marks of structure as common words."""
    document = json.loads(tokenizer.to_str())
    common = [each for each in document.get("added_tokens") or () if each["content"] in marks and not each["special"]]
    if not common:
        return tokenizer
    for each in common:
        each["special"] = True
    return Tokenizer.from_str(json.dumps(document))


def _begin_ids(tokenizer: Tokenizer) -> list[int]:
    """What the tokenizer puts before every text, such as one begin token; encoder's closing tokens are left away."""
    processor = json.loads(tokenizer.to_str()).get("post_processor")
    if processor is None:
        return []
    marked = tokenizer.encode("a")
    plain = tokenizer.encode("a", add_special_tokens=False)
    for start in range(len(marked.ids) - len(plain.ids) + 1):
        if marked.ids[start : start + len(plain.ids)] == plain.ids:
            return list(marked.ids[:start])
    return []
