"""Models carried over into another family: their numbers, not only their names."""

import numpy as np
import pytest
import torch
from torch.nn.functional import linear, normalize

from fedward.client.models.adapter_model import empty_base
from fedward.client.models.importing.conversions import converted
from fedward.client.models.importing.weights import Weight, as_float64
from fedward.client.models.registry import check_model_config
from tests.codes import raises

BAICHUAN = {
    "architectures": ["BaichuanForCausalLM"], "auto_map": {"AutoModel": "modeling_baichuan.X"},
    "model_type": "baichuan",
    "vocab_size": 48, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2, "num_attention_heads": 2,
    "hidden_act": "silu", "max_position_embeddings": 32, "model_max_length": 32, "rms_norm_eps": 1e-6,
    "initializer_range": 0.02, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "tie_word_embeddings": False,
    "torch_dtype": "bfloat16", "transformers_version": "4.29.2", "use_cache": True, "z_loss_weight": 0,
    "tokenizer_class": "BaichuanTokenizer",
}  # fmt: skip


def weights_of(tensors):
    arrays = {name: np.array(tensor.detach()) for name, tensor in tensors.items()}
    return {name: Weight("F32", array.shape, lambda array=array: array) for name, array in arrays.items()}


def llama():
    document = {
        "model_type": "llama",
        "vocab_size": 48,
        "hidden_size": 8,
        "intermediate_size": 12,
        "num_hidden_layers": 2,
    }
    document |= {"num_attention_heads": 2, "max_position_embeddings": 32, "tie_word_embeddings": False}
    return empty_base(check_model_config(document), "causal", seed=4).eval()


def as_baichuan(model):
    """The same model with query, key and value in one matrix."""
    state = dict(model.state_dict())
    for layer in range(2):
        stem = f"model.layers.{layer}.self_attn."
        parts = [state.pop(f"{stem}{each}_proj.weight") for each in "qkv"]
        state[f"{stem}W_pack.weight"] = torch.cat(parts)
    state["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(2)
    return state


@pytest.mark.parametrize("second", [True, False])
def test_baichuan_computes_the_same_as_a_llama(second):
    original = llama()
    with torch.no_grad():
        original.lm_head.weight.mul_(torch.arange(1.0, 49.0)[:, None])
    document = BAICHUAN if second else BAICHUAN | {"architectures": ["BaiChuanForCausalLM"]}
    config, weights = converted(document, weights_of(as_baichuan(original)))
    model = empty_base(check_model_config(config), "causal").eval()
    model.load_state_dict({name: torch.tensor(weight.read()) for name, weight in weights.items()})
    ids = torch.arange(2, 22)[None]
    with torch.no_grad():
        hidden = original.model(ids).last_hidden_state
        # The second generation normalises the rows of its output layer in every pass.
        head = normalize(original.lm_head.weight) if second else original.lm_head.weight
        assert torch.allclose(model(ids).logits, linear(hidden, head), atol=1e-6)
        assert torch.allclose(model(ids).logits, original(ids).logits, atol=1e-6) != second


@pytest.mark.parametrize(
    "change",
    [
        {"hidden_size": 5120},
        {"max_position_embeddings": None},
        {"quantization_config": {}},
        {"tie_word_embeddings": True},
    ],
)
def test_other_baichuans_are_refused_with_the_reason(change):
    document = {key: value for key, value in (BAICHUAN | change).items() if value is not None}
    with raises("FW-MODEL-017"):
        converted(document, {})


@pytest.mark.parametrize("rows", [0, 7, 25])
def test_a_packed_matrix_of_other_rows_is_refused(rows):
    packed = {"model.layers.0.self_attn.W_pack.weight": Weight("F32", (rows, 8), lambda: np.zeros((rows, 8)))}
    with raises("FW-MODEL-013"):
        converted(BAICHUAN, packed)


CHATGLM = {
    "architectures": ["ChatGLMModel"], "auto_map": {}, "model_type": "chatglm", "add_bias_linear": False,
    "add_qkv_bias": True, "apply_query_key_layer_scaling": True, "apply_residual_connection_post_layernorm": False,
    "attention_dropout": 0.0, "attention_softmax_in_fp32": True, "bias_dropout_fusion": True, "ffn_hidden_size": 12,
    "fp32_residual_connection": False, "hidden_dropout": 0.0, "hidden_size": 16, "kv_channels": 8,
    "layernorm_epsilon": 1e-5, "multi_query_attention": True, "multi_query_group_num": 1, "num_attention_heads": 2,
    "num_layers": 1, "original_rope": True, "padded_vocab_size": 48, "post_layer_norm": True, "rmsnorm": True,
    "seq_length": 32, "use_cache": True, "torch_dtype": "float16", "tie_word_embeddings": False, "eos_token_id": 2,
    "pad_token_id": 0,
}  # fmt: skip
SHAPES = {
    "transformer.embedding.word_embeddings.weight": (48, 16), "transformer.output_layer.weight": (48, 16),
    "transformer.encoder.final_layernorm.weight": (16,), "transformer.rotary_pos_emb.inv_freq": (2,),
    "transformer.encoder.layers.0.input_layernorm.weight": (16,),
    "transformer.encoder.layers.0.post_attention_layernorm.weight": (16,),
    "transformer.encoder.layers.0.self_attention.query_key_value.weight": (32, 16),
    "transformer.encoder.layers.0.self_attention.query_key_value.bias": (32,),
    "transformer.encoder.layers.0.self_attention.dense.weight": (16, 16),
    "transformer.encoder.layers.0.mlp.dense_h_to_4h.weight": (24, 16),
    "transformer.encoder.layers.0.mlp.dense_4h_to_h.weight": (16, 12),
}  # fmt: skip


def glm_weights():
    rng = np.random.default_rng(2)
    return weights_of(
        {name: torch.tensor(rng.normal(size=shape), dtype=torch.float32) for name, shape in SHAPES.items()}
    )


def rotated(part):
    """ChatGLM turns the first half of a head, in pairs of neighbours; [T, heads, width]."""
    length, _, width = part.shape
    turns = torch.arange(length)[:, None] / 10000 ** (torch.arange(0, width // 2, 2) / (width // 2))
    cos, sin = torch.cos(turns)[:, None], torch.sin(turns)[:, None]
    first, second, rest = part[..., : width // 2 : 2], part[..., 1 : width // 2 : 2], part[..., width // 2 :]
    pairs = torch.stack([first * cos - second * sin, second * cos + first * sin], -1).flatten(-2)
    return torch.cat([pairs, rest], -1)


def rms(hidden, weight):
    return hidden * (hidden.pow(2).mean(-1, keepdim=True) + 1e-5).rsqrt() * weight


def chatglm(held, ids):
    """Logits of one layer, written after the model's own code."""
    layer = {name.removeprefix("transformer.encoder.layers.0."): tensor for name, tensor in held.items()}
    hidden = held["transformer.embedding.word_embeddings.weight"][ids]
    normal = rms(hidden, layer["input_layernorm.weight"])
    mixed = normal @ layer["self_attention.query_key_value.weight"].T + layer["self_attention.query_key_value.bias"]
    query, key, value = (part.unflatten(-1, (-1, 8)) for part in mixed.split([16, 8, 8], -1))
    scores = torch.einsum("qhd,kgd->hqk", rotated(query), rotated(key)) / 8**0.5
    scores = scores.masked_fill(torch.ones(len(ids), len(ids)).triu(1).bool(), -torch.inf).softmax(-1)
    seen = torch.einsum("hqk,kgd->qhd", scores, value).flatten(1)
    hidden = hidden + seen @ layer["self_attention.dense.weight"].T
    gate, up = (rms(hidden, layer["post_attention_layernorm.weight"]) @ layer["mlp.dense_h_to_4h.weight"].T).chunk(
        2, -1
    )
    hidden = hidden + (torch.nn.functional.silu(gate) * up) @ layer["mlp.dense_4h_to_h.weight"].T
    return rms(hidden, held["transformer.encoder.final_layernorm.weight"]) @ held["transformer.output_layer.weight"].T


def test_chatglm_computes_the_same_as_a_glm():
    held = glm_weights()
    config, weights = converted(CHATGLM, held)
    model = empty_base(check_model_config(config), "causal").eval()
    model.load_state_dict({name: torch.tensor(weight.read()) for name, weight in weights.items()})
    ids = torch.arange(2, 22)
    expected = chatglm({name: torch.tensor(weight.read()) for name, weight in held.items()}, ids)
    with torch.no_grad():
        assert torch.allclose(model(ids[None]).logits[0], expected, atol=1e-4)


@pytest.mark.parametrize(
    "change",
    [
        {"multi_query_group_num": None},
        {"rope_ratio": 50},
        {"quantization_bit": 4},
        {"pre_seq_len": 128},
        {"rmsnorm": False},
    ],
)
def test_other_chatglms_are_refused_with_the_reason(change):
    with raises("FW-MODEL-017"):
        converted({k: v for k, v in (CHATGLM | change).items() if v is not None or k == "pre_seq_len"}, glm_weights())


def test_unknown_tensors_of_chatglm_are_refused_by_name():
    with raises("FW-MODEL-013", match="prefix_encoder"):
        converted(
            CHATGLM, glm_weights() | {"transformer.prefix_encoder.weight": Weight("F32", (1,), lambda: np.ones(1))}
        )


def test_bfloat16_is_computed_with_in_full_precision():
    exact = torch.randn(5, 4).to(torch.bfloat16)
    bits = exact.view(torch.int16).numpy().view(np.uint16)
    weight = Weight("BF16", (5, 4), lambda: bits)
    assert np.array_equal(as_float64(weight), exact.double().numpy())
    made = weight.computed(lambda array: array * 2)
    assert made.dtype == "F32"
    assert np.array_equal(made.read(), exact.float().numpy() * 2)
