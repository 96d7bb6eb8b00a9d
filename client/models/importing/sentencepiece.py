"""``tokenizer.model`` of sentencepiece: a protocol buffer, read field by field without the library.

Fields: https://github.com/google/sentencepiece/blob/master/src/sentencepiece_model.proto. Encoding:
https://protobuf.dev/programming-guides/encoding.
"""

import base64
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fedward.client.models.importing.tokenizer_parts import Kind, Piece, bad_tokenizer

_UNIGRAM, _BPE = 1, 2
_VARINT, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5


@dataclass(frozen=True)
class SentencePiece:
    """What the file says."""

    pieces: tuple[Piece, ...]
    joins: bool  # pairs are joined by score; otherwise the likeliest pieces are chosen
    prefix: bool  # a blank is put before every text
    squeezes: bool  # several blanks become one, and none stand at the ends
    table: bytes  # of the normalisation of letters; empty for none

    def normalizers(self) -> list[Any]:
        """Parts of ``tokenizer.json`` that change letters and blanks."""
        parts: list[Any] = []
        if self.table:
            table = base64.b64encode(self.table).decode("ascii")
            parts.append({"type": "Precompiled", "precompiled_charsmap": table})
        if self.squeezes:
            parts.append({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "})
            parts.append({"type": "Strip", "strip_left": True, "strip_right": True})
        return parts


def read_sentencepiece(raw: bytes) -> SentencePiece:
    """Parses the bytes of a file; raises FW-MODEL-015."""
    pieces: list[Piece] = []
    trainer: dict[int, Any] = {}
    normalizer: dict[int, Any] = {}
    for number, value in _fields(raw):
        if number == 1 and isinstance(value, bytes):
            pieces.append(_piece(value))
        elif number == 2 and isinstance(value, bytes):
            trainer = dict(_fields(value))
        elif number == 3 and isinstance(value, bytes):
            normalizer = dict(_fields(value))
    kind = trainer.get(3, _UNIGRAM)
    if not pieces or kind not in (_UNIGRAM, _BPE):
        raise bad_tokenizer("The model's vocabulary of sentencepiece is empty, or of a kind that is not known.")
    if trainer.get(24, 0) or not normalizer.get(5, 1):
        raise bad_tokenizer("The model's vocabulary of sentencepiece treats blanks in a way that is not known.")
    table = normalizer.get(2, b"")
    if not isinstance(table, bytes):
        raise _unsound()
    return SentencePiece(
        tuple(pieces),
        joins=kind == _BPE,
        prefix=bool(normalizer.get(3, 1)),
        squeezes=bool(normalizer.get(4, 1)),
        table=table,
    )


def _unsound() -> Exception:
    return bad_tokenizer("The model's vocabulary of sentencepiece is damaged.")


def _piece(raw: bytes) -> Piece:
    fields: dict[int, Any] = dict(_fields(raw))
    try:
        text = fields[1].decode("utf-8")
        score = struct.unpack("<f", fields[2])[0] if 2 in fields else 0.0
        return Piece(text, score, Kind(fields.get(3, Kind.NORMAL)))
    except (KeyError, AttributeError, ValueError, TypeError, struct.error) as error:
        raise _unsound() from error


def _fields(raw: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field: a whole number, or bytes of any other kind."""
    place = 0
    while place < len(raw):
        tag, place = _varint(raw, place)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, place = _varint(raw, place)
            yield number, value
            continue
        if wire == _BYTES:
            length, place = _varint(raw, place)
        elif wire in (_FOUR_BYTES, _EIGHT_BYTES):
            length = 4 if wire == _FOUR_BYTES else 8
        else:
            raise _unsound()
        if length > len(raw) - place:
            raise _unsound()
        yield number, raw[place : place + length]
        place += length


def _varint(raw: bytes, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(raw):
            break
        byte = raw[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, place
    raise _unsound()
