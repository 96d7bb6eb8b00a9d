"""Conversion of a model folder, inside the locked-down process: reads the source, writes the files of a model.

What is cheap comes first: configuration, tokenizer and chat template are written and checked before the weights are.
"""

from collections.abc import Mapping
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
    gguf = folder.gguf()
    if gguf is None:
        config, weights = converted(_config(folder), folder.weights())
        config = _with_ends(config, folder.object("generation_config.json", MAX_CONFIG_BYTES))
        family = check_model_config(config).family.name
        tokenizer, template = build_tokenizer(folder, family), _template(folder)
        settings = folder.object("tokenizer_config.json", MAX_TOKENIZER_CONFIG_BYTES)
    else:
        config, tokenizer, template, settings = *_gguf_parts(gguf), {}
        check_model_config(config)
        weights = model_weights(gguf, config)
    _write_texts(target, config, tokenizer, _tokenizer_config(tokenizer, template, settings))
    check_texts(ModelFiles(source.name, target, ""))
    _copy_licences(folder, target)
    _write_weights(target, weights)


def check_texts(files: ModelFiles) -> None:
    """Raises FW-MODEL-001, -011 or -012 unless tokenizer and chat template of a model folder can be used."""
    load_tokenizer(files)
    check_template(files)


def _config(folder: ModelFolder) -> dict[str, Any]:
    if not folder.has("config.json"):
        raise damaged("The model folder has no config.json.")
    return folder.object("config.json", MAX_CONFIG_BYTES)


def _with_ends(config: dict[str, Any], generation: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration with all tokens that end a text; some models list the second one only beside it."""
    ends: list[int] = []
    for held in (config.get("eos_token_id"), generation.get("eos_token_id")):
        listed = held if isinstance(held, list) else [held]
        ends += [number for number in listed if type(number) is int and number >= 0 and number not in ends]
    return {**config, "eos_token_id": ends if len(ends) > 1 else ends[0]} if ends else config


def _gguf_parts(gguf: GgufFile) -> tuple[dict[str, Any], Built, str | None]:
    config = model_config(gguf)
    for key, name in (("bos", "bos"), ("eos", "eos"), ("padding", "pad")):
        number = gguf.metadata.get(f"tokenizer.ggml.{key}_token_id")
        if type(number) is int:
            config[f"{name}_token_id"] = number
    template = gguf.metadata.get("tokenizer.chat_template")
    return config, tokenizer_of(gguf), template if isinstance(template, str) else None


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


def _tokenizer_config(tokenizer: Built, template: str | None, settings: Mapping[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast"}
    made |= {name: tokenizer.names[name] for name in NAMES if name in tokenizer.names}
    longest = settings.get("model_max_length")
    if type(longest) is int and 0 < longest < 2**31:
        made["model_max_length"] = longest
    return made if template is None else {**made, "chat_template": template}


def _write_texts(target: Path, config: Mapping[str, Any], tokenizer: Built, settings: Mapping[str, Any]) -> None:
    checked(tokenizer.document)
    (target / "config.json").write_text(dumped(config), encoding="utf-8")
    (target / "tokenizer.json").write_text(dumped(tokenizer.document), encoding="utf-8")
    (target / "tokenizer_config.json").write_text(dumped(settings), encoding="utf-8")


def _copy_licences(folder: ModelFolder, target: Path) -> None:
    for name in _LICENCES:
        if folder.has(name) and folder.file(name).stat().st_size <= MAX_LICENCE_BYTES:
            (target / name).write_bytes(folder.raw(name, MAX_LICENCE_BYTES))


def _write_weights(target: Path, weights: Mapping[str, Weight]) -> None:
    write_safetensors(target / WEIGHTS, weights)
