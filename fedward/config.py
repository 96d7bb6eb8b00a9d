"""Configuration files: TOML, read once, checked strictly.

Unknown keys are errors with a suggestion, because a silently ignored privacy setting is a leak.
"""

import difflib
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from fedward.errors import ConfigError, UnknownKeyError

MAX_CONFIG_BYTES = 1024 * 1024


class Section(BaseModel):
    """Base of every configuration section: immutable, no unknown keys, no silent type conversion."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    renamed: ClassVar[Mapping[str, str]] = {}
    """Keys of earlier releases, and what they are called now."""

    reads_renamed: ClassVar[bool] = False
    """Whether a file of this kind may still have the keys in :attr:`renamed`, its own and those of its sections."""


Parsed = TypeVar("Parsed", bound=Section)


def load_toml(path: Path, model: type[Parsed]) -> Parsed:
    """Reads ``path`` as TOML into ``model``. Raises ConfigError, UnknownKeyError (names the nearest known key)."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        fix = "Give the path of an existing TOML file that you may read."
        raise ConfigError(f"The configuration file {path} cannot be read ({error.strerror}).", fix=fix) from error
    if len(raw) > MAX_CONFIG_BYTES:
        raise ConfigError(f"The configuration file {path} is larger than {MAX_CONFIG_BYTES} bytes.")
    try:
        document = tomllib.loads(raw.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:  # the last: nested without end
        raise ConfigError(f"The configuration file {path} is not valid TOML: {error}.") from error
    return parse(document, model, source=str(path))


def parse(document: dict[str, Any], model: type[Parsed], *, source: str) -> Parsed:
    """Validates ``document``; ``source`` names it in errors. Raises like :func:`load_toml`."""
    try:
        return model.model_validate(_with_new_names(document, model) if model.reads_renamed else document)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False)
        # A key that is unknown explains one that is missing.
        first = next((each for each in found if each["type"] == "extra_forbidden"), found[0])
        where = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            fix = _suggestion(model, first["loc"])
            raise UnknownKeyError(f"{source} has an unknown key {where!r}.", fix=fix) from error
        raise ConfigError(f"{source}: {where or 'file'}: {first['msg']}.") from error


def _with_new_names(document: Mapping[str, Any], model: type[Section]) -> dict[str, Any]:
    """The same document with each renamed key under its new name; where two have one name, both stay: an error."""
    found: dict[str, Any] = {}
    for key, value in document.items():
        new = model.renamed.get(key, key)
        name = key if new in document or new in found else new
        section = _section_of(model.model_fields[name].annotation) if name in model.model_fields else None
        found[name] = _with_new_names(value, section) if section and isinstance(value, Mapping) else value
    return found


def to_toml(document: Mapping[str, Any]) -> str:
    """Writes nested tables of text, numbers, flags and flat lists as TOML; keys whose value is None are left out."""
    return "\n".join(_table("", document)).strip() + "\n"


def _table(path: str, table: Mapping[str, Any]) -> list[str]:
    """Lines of a table: its plain values first, then the tables in it, each under its full name."""
    lines = []
    for key, value in table.items():
        if value is not None and not isinstance(value, Mapping):
            lines.append(f"{_bare(key)} = {_toml_value(value)}")
    for key, value in table.items():
        if isinstance(value, Mapping):
            inner = f"{path}.{_bare(key)}".lstrip(".")
            lines += ["", f"[{inner}]", *_table(inner, value)]
    return lines


def _bare(key: str) -> str:
    return key if key.replace("-", "").replace("_", "").isalnum() and key.isascii() else json.dumps(key)


def _toml_value(value: object) -> str:
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml_value(item) for item in value) + "]"
    # JSON's text, numbers and flags are TOML's; Python writes a float so that it is read back exactly.
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _suggestion(model: type[Section], location: tuple[int | str, ...]) -> str:
    section = model
    for part in location[:-1]:
        if isinstance(part, str) and part in section.model_fields:
            section = _section_of(section.model_fields[part].annotation) or section
    key = str(location[-1])
    near = [section.renamed[key]] if key in section.renamed else []
    near = near or difflib.get_close_matches(key, section.model_fields, n=1)
    return f"Did you mean {near[0]!r}?" if near else f"Known keys here: {', '.join(sorted(section.model_fields))}."


def _section_of(annotation: Any) -> type[Section] | None:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return annotation
    return next(filter(None, map(_section_of, get_args(annotation))), None)
