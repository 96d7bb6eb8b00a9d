"""GGUF files: blocks of numbers, the order of rows, and what a damaged or unknown file does."""

import hashlib
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedward.client.models.importing.gguf import read_gguf
from fedward.client.models.importing.gguf_models import ARCHITECTURES, halves, model_config, model_weights
from fedward.client.models.importing.gguf_tokenizer import tokenizer_of
from fedward.client.models.importing.quantised import FORMATS, UNSUPPORTED
from fedward.client.models.importing.tokenizer_parts import checked
from fedward.errors import FedwardError
from tests.codes import raises
from tests.foreign_models import gguf, gguf_keys, gguf_tensors, numbered, text


def written(path, keys=None, tensors=None, **more):
    gguf(path / "m.gguf", keys or gguf_keys(), tensors or gguf_tensors(), **more)
    return path / "m.gguf"


def weights(path, keys=None, tensors=None):
    file = read_gguf(written(path, keys, tensors))
    return model_weights(file, model_config(file))


def half(value):
    return np.array([value], np.float16).tobytes()


# Each block by hand: its scales are powers of two, so that every number is exact.
BLOCKS = {
    2: (half(2.0) + bytes([0x10 * (i % 16) | (15 - i % 16) for i in range(16)]),
        [2.0 * (15 - i - 8) for i in range(16)] + [2.0 * (i - 8) for i in range(16)]),
    3: (half(0.5) + half(-1.0) + bytes([0x21] * 16), [-0.5] * 16 + [0.0] * 16),
    6: (half(1.0) + struct.pack("<I", 1 | 1 << 31) + bytes([0x35] * 16),
        [21.0 - 16] + [5.0 - 16] * 15 + [3.0 - 16] * 15 + [19.0 - 16]),
    7: (half(1.0) + half(4.0) + struct.pack("<I", 0) + bytes([0x35] * 16), [9.0] * 16 + [7.0] * 16),
    8: (half(0.25) + np.arange(-16, 16, dtype=np.int8).tobytes(), [0.25 * i for i in range(-16, 16)]),
    14: (bytes([0x21] * 128) + bytes([0b11_10_01_00] * 64) + bytes([1] * 16) + half(1.0),
         ([1.0 - 32] * 32 + [1.0 + 16 - 32] * 32 + [2.0 + 32 - 32] * 32 + [2.0 + 48 - 32] * 32) * 2),
    12: (half(1.0) + half(1.0) + bytes([2] * 4 + [1] * 4 + [0x12] * 4) + bytes([0x53] * 128),
         ([2 * 3.0 - 1] * 32 + [2 * 5.0 - 1] * 32) * 4),
}  # fmt: skip


@pytest.mark.parametrize("kind", sorted(BLOCKS))
def test_blocks_by_hand(kind):
    raw, expected = BLOCKS[kind]
    held = FORMATS[kind]
    assert len(raw) == held.size
    found = held.numbers(np.frombuffer(raw, np.uint8).reshape(1, -1))
    assert found.dtype == np.float32
    assert found[0].tolist() == expected


SCALES = {2: [0], 3: [0, 2], 6: [0], 7: [0, 2], 8: [0], 10: [80, 82], 11: [108], 12: [0, 2], 13: [0, 2], 14: [208]}
DIGESTS = {
    2: "16b0c1c959c18895",
    3: "b5b8471285b47360",
    6: "f2066a7cd5e1d106",
    7: "1c89c465924cc87b",
    8: "31e08081e5c12730",
    10: "09698c0bf590c3e3",
    11: "1ad5f0d5d7ea3bb4",
    12: "979cc7559758a67b",
    13: "825ba9adda440357",
    14: "7feaed457e04025f",
}
"""SHA-256, first 16 digits, of what gguf.quants.dequantize of the package gguf 0.19.0 makes of the same blocks."""


@pytest.mark.parametrize("kind", [k for k, held in FORMATS.items() if held.numbers])
def test_blocks_equal_those_of_the_gguf_package(kind):
    size = FORMATS[kind].size
    raw = (np.arange(50 * size, dtype=np.int64) * 2654435761 % 2**32 >> 13).astype(np.uint8).reshape(50, size)
    for start in SCALES[kind]:
        raw[:, start : start + 2] = np.linspace(-2, 3, 50).astype(np.float16)[:, None].view(np.uint8)
    found = np.ascontiguousarray(FORMATS[kind].numbers(raw), "<f4")
    assert hashlib.sha256(found.tobytes()).hexdigest()[:16] == DIGESTS[kind]


def test_rows_of_query_and_key_are_put_back_in_order(tmp_path):
    tensors = gguf_tensors()
    # Two heads of four rows: row 0 and row 2 of a head stand beside each other there.
    tensors["blk.0.attn_q.weight"] = numbered(8)[[0, 2, 1, 3, 4, 6, 5, 7]]
    tensors["blk.0.attn_k.weight"] = numbered(4)[[0, 2, 1, 3]]
    read = weights(tmp_path, None, tensors)
    for name, rows in (("q", range(8)), ("k", range(4)), ("v", range(4))):
        assert read[f"model.layers.0.self_attn.{name}_proj.weight"].read()[:, 0].tolist() == list(rows)


@pytest.mark.parametrize("architecture", ["qwen2", "qwen3", "gemma3"])
def test_rows_of_other_families_stay_where_they_are(tmp_path, architecture):
    read = weights(tmp_path, gguf_keys(architecture))
    assert read["model.layers.0.self_attn.q_proj.weight"].read()[:, 0].tolist() == list(range(8))


def test_biases_of_query_and_key_are_put_back_too(tmp_path):
    biases = {f"blk.0.attn_{each}.bias": np.arange(n, dtype=np.float32) for each, n in (("q", 8), ("k", 4), ("v", 4))}
    biases["blk.0.attn_q.bias"] = biases["blk.0.attn_q.bias"][[0, 2, 1, 3, 4, 6, 5, 7]]
    file = read_gguf(written(tmp_path, None, gguf_tensors() | biases))
    config = model_config(file)
    assert config["attention_bias"] is True
    held = model_weights(file, config)["model.layers.0.self_attn.q_proj.bias"].read()
    assert held.tolist() == list(range(8))


def test_halves_undo_what_the_converter_does():
    array = np.random.default_rng(1).normal(size=(12, 3))
    stored = array.reshape(3, 2, 2, 3).swapaxes(1, 2).reshape(12, 3)
    assert np.array_equal(halves(stored, 3), array)


def test_normalisations_of_gemma_lose_what_was_added(tmp_path):
    read = weights(tmp_path, gguf_keys("gemma3"))
    assert read["model.norm.weight"].read().tolist() == [0.0] * 8
    assert read["model.layers.0.pre_feedforward_layernorm.weight"].read().tolist() == [0.0] * 8


def test_maps_of_gpt2_are_transposed(tmp_path):
    keys = {k: v for k, v in gguf_keys("gpt2", groups=2).items() if "rms" not in k}
    keys["gpt2.attention.layer_norm_epsilon"] = 1e-5
    wide = np.arange(8 * 24, dtype=np.float32).reshape(24, 8)
    file = read_gguf(written(tmp_path, keys, {"token_embd.weight": numbered(260), "blk.0.attn_qkv.weight": wide}))
    held = model_weights(file, model_config(file))["transformer.h.0.attn.c_attn.weight"]
    assert held.shape == (8, 24)
    assert np.array_equal(held.read(), wide.T)


def test_an_output_layer_of_its_own_is_not_tied(tmp_path):
    assert model_config(read_gguf(written(tmp_path)))["tie_word_embeddings"] is True
    tensors = gguf_tensors() | {"output.weight": numbered(260)}
    file = read_gguf(written(tmp_path, None, tensors))
    assert model_config(file)["tie_word_embeddings"] is False
    assert "lm_head.weight" in model_weights(file, model_config(file))


@pytest.mark.parametrize("factor", [8.0, 32.0])
def test_frequencies_of_llama_3_become_its_setting(tmp_path, factor):
    import torch
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    scaling = {"rope_type": "llama3", "factor": factor, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    scaling["original_max_position_embeddings"] = 8192
    config = LlamaConfig(hidden_size=256, num_attention_heads=2, rope_parameters={**scaling, "rope_theta": 5e5})
    plain = 1 / 5e5 ** (torch.arange(0, 128, 2) / 128)
    stored = (plain / ROPE_INIT_FUNCTIONS["llama3"](config, "cpu")[0]).numpy().astype(np.float32)
    keys = gguf_keys(width=256, groups=2) | {"llama.rope.freq_base": 5e5}
    file = read_gguf(written(tmp_path, keys, gguf_tensors(width=256, groups=2) | {"rope_freqs.weight": stored}))
    assert model_config(file)["rope_scaling"] == scaling
    assert "" not in model_weights(file, model_config(file))


def test_other_frequencies_are_refused(tmp_path):
    tensors = gguf_tensors() | {"rope_freqs.weight": np.array([1.0, 1.7], np.float32)}
    with raises("FW-MODEL-014", match="rope_freqs"):
        model_config(read_gguf(written(tmp_path, None, tensors)))


@pytest.mark.parametrize(
    "name",
    ["blk.0.attn_rel_bias.weight", "blk.0.ffn_gate_exps.weight", "v.patch_embd.weight", "blk.0.attn_sinks", "\x1b[2J"],
)
def test_unknown_tensors_are_refused_by_name(tmp_path, name):
    file = read_gguf(written(tmp_path, None, gguf_tensors() | {name: np.ones(8, np.float32)}))
    with raises("FW-MODEL-014", match=name if name.isprintable() else "cannot be printed"):
        model_weights(file, model_config(file))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("llama.rope.scaling.type", "linear"), ("llama.rope.scaling.factor", 4.0), ("llama.expert_count", 8),
        ("llama.attention.sliding_window", 512), ("llama.logit_scale", 0.5), ("llama.rope.dimension_count", 2),
        ("llama.attention.key_length_swa", 3), ("llama.attention.value_length", 2),
    ],
)  # fmt: skip
def test_keys_that_change_the_model_are_refused_by_name(tmp_path, key, value):
    with raises("FW-MODEL-014", match=key):
        model_config(read_gguf(written(tmp_path, gguf_keys() | {key: value})))


@pytest.mark.parametrize("missing", ["llama.embedding_length", "llama.block_count", "general.architecture"])
def test_missing_keys_are_named(tmp_path, missing):
    keys = {key: value for key, value in gguf_keys().items() if key != missing}
    with raises("FW-MODEL-014"):
        model_config(read_gguf(written(tmp_path, keys)))


def test_unknown_architectures_are_refused_by_name(tmp_path):
    with raises("FW-MODEL-014", match="mamba") as caught:
        model_config(read_gguf(written(tmp_path, gguf_keys("mamba"))))
    assert all(name in caught.value.fix for name in ARCHITECTURES)


@pytest.mark.parametrize("kind", [*UNSUPPORTED, 4, 5, 31, 999])
def test_types_that_are_not_read_are_refused(tmp_path, kind):
    with raises("FW-MODEL-014", match=UNSUPPORTED.get(kind, str(kind))):
        read_gguf(written(tmp_path, kinds={"token_embd.weight": kind}))


def header(tensors, keys, body=b""):
    return b"GGUF" + struct.pack("<IQQ", 3, tensors, keys) + body


ENTRY = text("a.weight")


def one(*numbers, layout="IQIQ", name=ENTRY, rest=200):
    """A description of one tensor: dimensions, shape, type, offset."""
    return name + struct.pack("<" + layout, *numbers) + bytes(rest)


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"GGUF", b"GGML" + bytes(60), b"GGUF" + struct.pack(">IQQ", 3, 0, 0),
        b"GGUF" + struct.pack("<IQQ", 1, 0, 0), header(2**40, 0), header(0, 2**40), header(0, 1),
        header(0, 1, struct.pack("<Q", 2**60) + b"a"), header(0, 1, text("k") + struct.pack("<I", 99)),
        header(0, 1, text("k") + struct.pack("<IIQ", 9, 8, 2**50)),
        header(0, 1, text("k") + struct.pack("<IIQ", 9, 4, 2**62)),
        header(0, 1, text("k") + struct.pack("<IIQ", 9, 9, 1)),
        header(0, 2, (text("k") + struct.pack("<IB", 7, 1)) * 2),
        header(0, 1, struct.pack("<Q", 1) + b"\xff" + bytes(9)),
        header(1, 0, one(1, 2**50, 0, 0)), header(1, 0, one(0, 0, layout="IQ")), header(1, 0, one(2**31, layout="I")),
        header(1, 0, one(2, 2**33, 2**33, 0, 0, layout="IQQIQ")), header(1, 0, one(1, 0, 0, 0)),
        header(1, 0, one(1, 8, 0, 1)), header(1, 0, one(1, 33, 8, 0)), header(1, 0, one(1, 2, 0, 2**63)),
        header(2, 0, one(1, 1, 0, 0, rest=0) + one(1, 1, 0, 0)),
        header(2, 0, one(1, 9, 0, 0, rest=0) + one(1, 1, 0, 32, name=text("b"))),
        header(0, 1, text("general.alignment") + struct.pack("<II", 4, 0)),
        header(0, 1, text("general.alignment") + struct.pack("<II", 4, 48)),
    ],
)  # fmt: skip
def test_damaged_files_are_refused(tmp_path, raw):
    (tmp_path / "m.gguf").write_bytes(raw)
    with raises("FW-MODEL-014"):
        read_gguf(tmp_path / "m.gguf")


@pytest.mark.parametrize("kept", [10, 100, 0.3, 0.7, 0.99])
def test_truncated_files_are_refused(tmp_path, kept):
    path = written(tmp_path)
    raw = path.read_bytes()
    path.write_bytes(raw[: int(len(raw) * kept) if isinstance(kept, float) else kept])
    with raises("FW-MODEL-014"):
        read_gguf(path)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=120), st.integers(0, 3), st.integers(0, 3))
def test_arbitrary_bytes_never_crash(tmp_path_factory, body, tensors, keys):
    path = tmp_path_factory.mktemp("any") / "m.gguf"
    path.write_bytes(header(tensors, keys, body))
    try:
        file = read_gguf(path)
        model_weights(file, model_config(file))
        tokenizer_of(file)
    except FedwardError:
        pass


def test_the_tokenizer_reads_bytes_and_joins_pairs(tmp_path):
    built = tokenizer_of(read_gguf(written(tmp_path)))
    made = checked(built.document)
    assert made.encode("the</s>").tokens == ["t", "he", "</s>"]
    assert made.decode(made.encode("é 高").ids) == "é 高"
    assert built.names == {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("gpt-2", ["1234"]),
        ("smollm", list("1234")),
        ("llama-bpe", ["123", "4"]),
        ("qwen2", list("1234")),
        ("default", ["123", "4"]),
    ],
)
def test_numbers_are_split_by_the_rule(tmp_path, rule, expected):
    built = tokenizer_of(read_gguf(written(tmp_path, gguf_keys() | {"tokenizer.ggml.pre": rule})))
    assert [piece for piece, _ in checked(built.document).pre_tokenizer.pre_tokenize_str("1234")] == expected


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model", "rwkv"), ("pre", "invented"), ("tokens", ["a", "a"]), ("merges", ["a"]), ("merges", ["a b c"]),
        ("bos_token_id", 9999), ("token_type", [1]), ("token_type", [77] * 260), ("scores", [1.0]),
    ],
)  # fmt: skip
def test_tokenizers_that_are_damaged_or_unknown_are_refused(tmp_path, key, value):
    file = read_gguf(written(tmp_path, gguf_keys() | {f"tokenizer.ggml.{key}": value}))
    with raises("FW-MODEL-015"):
        tokenizer_of(file)


def test_a_begin_token_is_added_where_the_file_asks_for_it(tmp_path):
    built = tokenizer_of(read_gguf(written(tmp_path, gguf_keys() | {"tokenizer.ggml.add_bos_token": True})))
    assert checked(built.document).encode("a").tokens == ["<s>", "a"]


def test_pieces_are_joined_by_score(tmp_path):
    space = "\N{LOWER ONE EIGHTH BLOCK}"
    tokens = [
        "<unk>",
        "<s>",
        "</s>",
        *(f"<0x{n:02X}>" for n in range(256)),
        space,
        "a",
        "b",
        "c",
        "ab",
        "bc",
        f"{space}a",
    ]
    kinds = [2, 3, 3, *[6] * 256, *[1] * 7]
    scores = [0.0] * 259 + [-9.0, -9.0, -9.0, -9.0, -2.0, -1.0, -3.0]
    keys = gguf_keys() | {
        "tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.scores": scores, "tokenizer.ggml.bos_token_id": 1, "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.padding_token_id": 2,
    }  # fmt: skip
    made = checked(tokenizer_of(read_gguf(written(tmp_path, keys))).document)
    assert made.encode("abc").tokens == ["<s>", f"{space}a", "bc"]  # bc before ab: its score is higher
    assert made.decode(made.encode("a b高").ids) == "a b高"
