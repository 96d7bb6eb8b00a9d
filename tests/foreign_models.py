"""Writers of foreign model files, right or wrong on purpose: GGUF, torch.save opcode by opcode, sentencepiece."""

import struct
import zipfile
from pathlib import Path

import numpy as np

# --- GGUF -----------------------------------------------------------------------------------------

KINDS = {bool: (7, "?"), int: (4, "I"), float: (6, "f")}


def text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def _value(value) -> bytes:
    if isinstance(value, str):
        return struct.pack("<I", 8) + text(value)
    if isinstance(value, list):
        if isinstance(value[0], str):
            return struct.pack("<IIQ", 9, 8, len(value)) + b"".join(map(text, value))
        kind, layout = (6, "f") if isinstance(value[0], float) else (5, "i")
        return struct.pack("<IIQ", 9, kind, len(value)) + struct.pack(f"<{len(value)}{layout}", *value)
    kind, layout = KINDS[type(value)]
    return struct.pack("<I" + layout, kind, value)


def gguf(path: Path, keys: dict, tensors: dict, *, version: int = 3, kinds: dict | None = None) -> None:
    """``tensors`` are float32 arrays, or pairs of a type's number and raw bytes with a shape."""
    info, data = b"", b""
    for name, held in tensors.items():
        kind, raw, shape = (0, held.astype("<f4").tobytes(), held.shape) if isinstance(held, np.ndarray) else held
        kind = (kinds or {}).get(name, kind)
        info += text(name) + struct.pack("<I", len(shape)) + b"".join(struct.pack("<Q", n) for n in shape[::-1])
        info += struct.pack("<IQ", kind, len(data))
        data += raw + bytes(-len(raw) % 32)
    head = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(keys))
    head += b"".join(text(key) + _value(value) for key, value in keys.items()) + info
    path.write_bytes(head + bytes(-len(head) % 32) + data)


BYTES = [*range(33, 127), *range(161, 173), *range(174, 256)]
LETTERS = [chr(b) if b in BYTES else chr(256 + [c for c in range(256) if c not in BYTES].index(b)) for b in range(256)]


def gguf_keys(architecture: str = "llama", *, heads: int = 2, groups: int = 1, width: int = 8, layers: int = 1) -> dict:
    """Keys of a small model whose tokens are bytes."""
    tokens = [*LETTERS, "<s>", "</s>", "<pad>", "he"]
    return {
        "general.architecture": architecture,
        f"{architecture}.context_length": 64,
        f"{architecture}.embedding_length": width,
        f"{architecture}.block_count": layers,
        f"{architecture}.feed_forward_length": width,
        f"{architecture}.attention.head_count": heads,
        f"{architecture}.attention.head_count_kv": groups,
        f"{architecture}.attention.layer_norm_rms_epsilon": 1e-6,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [1] * 256 + [3] * 3 + [1],
        "tokenizer.ggml.merges": ["h e"],
        "tokenizer.ggml.bos_token_id": 256,
        "tokenizer.ggml.eos_token_id": 257,
        "tokenizer.ggml.padding_token_id": 258,
    }


def numbered(rows: int, width: int = 8) -> np.ndarray:
    """A matrix whose rows carry their number."""
    return np.repeat(np.arange(rows, dtype=np.float32)[:, None], width, 1)


def gguf_tensors(*, heads: int = 2, groups: int = 1, width: int = 8, entries: int = 260) -> dict:
    """Tensors of the model of :func:`gguf_keys`, tied; rows of q, k and v are numbered."""
    ones, rows = np.ones(width, np.float32), groups * width // heads
    return {
        "token_embd.weight": np.ones((entries, width), np.float32),
        "output_norm.weight": ones,
        "blk.0.attn_norm.weight": ones,
        "blk.0.ffn_norm.weight": ones,
        "blk.0.attn_q.weight": numbered(width),
        "blk.0.attn_k.weight": numbered(rows),
        "blk.0.attn_v.weight": numbered(rows),
        "blk.0.attn_output.weight": np.eye(width, dtype=np.float32),
        "blk.0.ffn_gate.weight": np.eye(width, dtype=np.float32),
        "blk.0.ffn_up.weight": np.eye(width, dtype=np.float32),
        "blk.0.ffn_down.weight": np.eye(width, dtype=np.float32),
    }


# --- files of torch.save --------------------------------------------------------------------------


def word(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value) if -(2**31) <= value < 2**31 else b"\x8a\x08" + struct.pack("<q", value)


def name(module: str, attribute: str) -> bytes:
    return f"c{module}\n{attribute}\n".encode()


def tensor(
    shape=(2,), *, key: str = "0", count: int = 2, offset: int = 0, strides=(1,), storage: str = "FloatStorage"
) -> bytes:
    """The call that builds one tensor."""
    held = word("storage") + name("torch", storage) + word(key) + word("cpu") + number(count)
    sizes, steps = (b"(" + b"".join(map(number, each)) + b"t" for each in (shape, strides))
    hooks = name("collections", "OrderedDict") + b")R"
    build = name("torch._utils", "_rebuild_tensor_v2")
    return build + b"((" + held + b"tQ" + number(offset) + sizes + steps + b"\x89" + hooks + b"tR"


def program(pairs: dict, *, before: bytes = b"", after: bytes = b"") -> bytes:
    """A dictionary of what the instructions in ``pairs`` leave."""
    held = b"".join(word(key) + value for key, value in pairs.items())
    return b"\x80\x02" + before + b"}(" + held + b"u" + after + b"."


def archive(path: Path, code: bytes, storages: dict | None = None, *, packed: bool = False, **entries: bytes) -> None:
    """A ZIP as torch.save writes it."""
    kind = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", kind) as file:
        file.writestr("archive/data.pkl", code)
        for key, raw in (storages or {"0": struct.pack("<2f", 1, 2)}).items():
            file.writestr(f"archive/data/{key}", raw)
        for entry, raw in entries.items():
            file.writestr(f"archive/{entry}", raw)


# --- sentencepiece --------------------------------------------------------------------------------


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def field(place: int, value: bytes | int | float) -> bytes:
    if isinstance(value, float):
        return varint(place << 3 | 5) + struct.pack("<f", value)
    if isinstance(value, int):
        return varint(place << 3) + varint(value)
    return varint(place << 3 | 2) + varint(len(value)) + value


def sentencepiece(pieces, *, joins: bool = True, prefix: bool = True) -> bytes:
    """``pieces`` are text, score and kind."""
    entries = (field(1, field(1, t.encode()) + field(2, float(s)) + field(3, k)) for t, s, k in pieces)
    trainer = field(2, field(3, 2 if joins else 1))
    return b"".join(entries) + trainer + field(3, field(1, b"identity") + field(3, int(prefix)) + field(4, 0))
