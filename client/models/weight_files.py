"""Weight files: which safetensors files a model folder's weights lie in, one or several with an index.

The index is foreign input like everything in the folder: it names files of the folder itself and nothing else, and each
file holds exactly the tensors that the index says. No other format is ever opened.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from fedward.client.models.model_config import read_json_object
from fedward.errors import ConfigError

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
MAX_INDEX_BYTES = 16 * 2**20
_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,80}\.safetensors")


def weight_files(folder: Path) -> list[str]:
    """Names of the files that the weights in ``folder`` lie in: the weights alone, or the index and its parts, sorted.

    Raises:
        ConfigError: FW-MODEL-001, there are none, the index is not one, or the folder holds other parts than it names.
    """
    if not (folder / INDEX).exists():
        if not (folder / WEIGHTS).is_file():
            raise ConfigError(f"The model folder has no {WEIGHTS}.", code="FW-MODEL-001")
        return [WEIGHTS]
    parts = sorted(set(_weight_map(folder).values()))
    for part in parts:
        # A link in the place of a part could lead out of the folder.
        if not (folder / part).is_file() or (folder / part).resolve().parent != folder.resolve():
            raise ConfigError("The model folder lacks a part of the weights that its index names.", code="FW-MODEL-001")
    if parts != sorted(path.name for path in folder.glob("*.safetensors")):
        raise ConfigError("The model folder holds weights that its index does not name.", code="FW-MODEL-001")
    return sorted([INDEX, *parts])


@contextmanager
def opened_weights(folder: Path) -> Iterator[dict[str, Any]]:
    """Name of every tensor in ``folder`` -> the open file that holds it; no tensor is read yet.

    Raises:
        ConfigError: FW-MODEL-001, a file is not safetensors, or holds other tensors than the index says.
    """
    names = [name for name in weight_files(folder) if name != INDEX]
    expected = _weight_map(folder) if (folder / INDEX).exists() else None
    try:
        files: dict[str, Any] = {name: safe_open(folder / name, framework="pt") for name in names}
        held = [(tensor, name) for name, file in files.items() for tensor in file.offset_keys()]
        where = dict(held)
        if len(where) != len(held) or expected not in (None, where):
            raise ConfigError(
                "The parts of the model's weights do not hold the tensors that their index names.", code="FW-MODEL-001"
            )
        yield {tensor: files[name] for tensor, name in where.items()}
    except (OSError, SafetensorError) as error:
        raise ConfigError("The model's weights cannot be read.", code="FW-MODEL-001") from error


def _weight_map(folder: Path) -> dict[str, str]:
    document = read_json_object(folder / INDEX, MAX_INDEX_BYTES)
    named = document.get("weight_map")
    if set(document) - {"metadata", "weight_map"} or not isinstance(named, dict) or not named:
        raise ConfigError(f"The model's {INDEX} does not have the expected form.", code="FW-MODEL-001")
    for part in named.values():
        if not isinstance(part, str) or not _PART.fullmatch(part):
            raise ConfigError(
                f"The model's {INDEX} names something else than a safetensors file of its folder.", code="FW-MODEL-001"
            )
    return named
