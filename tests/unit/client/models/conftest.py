"""A small random model folder of each family with its own word tokenizer, written once per session."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from fedward.client.models.adapter_model import empty_base, linear_maps
from fedward.client.models.families import FAMILIES
from fedward.client.models.registry import ModelConfig, ModelFiles, check_model_config, read_model_folder
from fedward.tasks.task import HeadKind

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
TEXT = "age 40s 70s . male female micu csru lactate creatinine high low normal no fever cough sepsis"
WORDS = TEXT.split()

CONFIGS = {
    "bert": {
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_attention_heads": 2,
        "num_hidden_layers": 3,
        "type_vocab_size": 2,
    },
    "distilbert": {"dim": 16, "hidden_dim": 24, "n_heads": 2, "n_layers": 3},
}
DECODER = {
    "head_dim": 4,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_attention_heads": 4,
    "num_hidden_layers": 3,
    "num_key_value_heads": 2,
}
CONFIGS |= {
    "bart": {
        "d_model": 16,
        "decoder_attention_heads": 4,
        "decoder_ffn_dim": 24,
        "decoder_layers": 3,
        "decoder_start_token_id": 3,
        "encoder_attention_heads": 2,
        "encoder_ffn_dim": 20,
        "encoder_layers": 2,
        "scale_embedding": True,
    },
    "biogpt": {key: value for key, value in CONFIGS["bert"].items() if key != "type_vocab_size"},
    "deberta-v2": {
        **CONFIGS["bert"],
        "norm_rel_ebd": "layer_norm",
        "pos_att_type": "p2c|c2p",
        "position_buckets": 4,
        "position_biased_input": False,
        "relative_attention": True,
        "share_att_key": True,
        "type_vocab_size": 0,
    },
    "electra": {**CONFIGS["bert"], "embedding_size": 8},
    "gemma3_text": {**DECODER, "query_pre_attn_scalar": 4, "sliding_window": 4, "_sliding_window_pattern": 2},
    "glm": {**DECODER, "attention_bias": True, "partial_rotary_factor": 0.5},
    "glm4": DECODER,
    "gpt2": {"n_embd": 16, "n_head": 2, "n_inner": 24, "n_layer": 3, "n_positions": 34},
    "llama": DECODER,
    "modernbert": {
        "global_attn_every_n_layers": 2,
        "hidden_size": 16,
        "intermediate_size": 24,
        "local_attention": 4,
        "num_attention_heads": 2,
        "num_hidden_layers": 3,
    },
    "mistral": {**DECODER, "sliding_window": 5},
    "phi3": {key: value for key, value in DECODER.items() if key != "head_dim"},
    "qwen2": DECODER,
    "qwen3": DECODER,
    "roberta": CONFIGS["bert"],
    "t5": {
        "d_ff": 24,
        "d_kv": 4,
        "d_model": 16,
        "n_positions": 34,
        "num_decoder_layers": 3,
        "num_heads": 4,
        "num_layers": 2,
        "relative_attention_num_buckets": 8,
    },
    "xlm-roberta": CONFIGS["bert"],
}


def targets_of(family: str, *wanted: str) -> tuple[str, ...]:
    """The LoRA targets ``wanted``, or of a family without them the maps that they are part of, or that are there."""
    fused = {"query": "query_key_value", "key": "query_key_value", "value": "query_key_value"}
    fused |= {"feed_forward_gate": "feed_forward_gate_up", "feed_forward_up": "feed_forward_gate_up"}
    known = FAMILIES[family].targets
    nearest = ((target, fused.get(target, target), "value") for target in wanted)
    return tuple(dict.fromkeys(next(each for each in choice if each in known) for choice in nearest))


def all_targets(config: ModelConfig, kind: HeadKind) -> tuple[str, ...]:
    """Every LoRA target that the layers of a model have."""
    maps, layer = linear_maps(config, kind), f"{config.family.layers_at(kind)}.0"
    return tuple(target for target, path in config.family.targets.items() if f"{layer}.{path}" in maps)


def config_document(family: str, config: dict | None = None) -> dict:
    document = {
        "model_type": family,
        "architectures": ["Any"],
        "vocab_size": len(SPECIAL) + len(WORDS),
        "max_position_embeddings": 34,
        "pad_token_id": 0,
        "eos_token_id": 3,
        **(config or CONFIGS[family]),
    }
    known = FAMILIES[family].settings.keys() | FAMILIES[family].ignored
    return {key: value for key, value in document.items() if key != "max_position_embeddings" or key in known}


@pytest.fixture(scope="session")
def make_model(tmp_path_factory) -> Callable[..., ModelFiles]:
    """Returns a builder of random tiny models: family, sizes of a toy family, kind of head that the files are for."""
    built: dict[tuple[str, str], ModelFiles] = {}

    def make(family: str = "bert", config: dict | None = None, kind: HeadKind = "sequence") -> ModelFiles:
        if (family, kind) not in built:
            folder = tmp_path_factory.mktemp(f"tiny-{family}")
            write_model(folder, config_document(family, config), kind=kind)
            built[family, kind] = read_model_folder(folder, folder.name)
        return built[family, kind]

    return make


@pytest.fixture(scope="session")
def tiny(make_model) -> ModelFiles:
    return make_model("bert")


@pytest.fixture(params=sorted(FAMILIES))
def document(request) -> dict:
    """The configuration of a tiny model, of each family in turn."""
    return config_document(request.param)


def write_model(folder: Path, document: dict, words: tuple[str, ...] = (), *, kind: HeadKind = "sequence") -> None:
    """Writes a random model; ``words`` are known to its tokenizer beside :data:`WORDS`."""
    document = {**document, "vocab_size": document["vocab_size"] + len(words)}
    (folder / "config.json").write_text(json.dumps(document))
    config = check_model_config(document)
    base = empty_base(config, kind if kind in config.family.heads else next(iter(config.family.heads)), seed=3)
    save_file({name: tensor.clone() for name, tensor in base.state_dict().items()}, folder / "model.safetensors")
    vocabulary = {word: number for number, word in enumerate([*SPECIAL, *WORDS, *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
