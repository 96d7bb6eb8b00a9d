"""A small random Llama folder whose tokens are the bytes of UTF-8, with a chat template or without one."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from fedward.client.models.adapter_model import empty_base
from fedward.client.models.registry import ModelFiles, check_model_config, read_model_folder
from fedward.client.models.templates import TEMPLATES

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<s>"]
TEMPLATE = {template.name: template.source for template in TEMPLATES}
SIZES = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "num_hidden_layers": 2,
    "rms_norm_eps": 1e-5,
}


def write_decoder(folder: Path, *, template: str | None = "chatml", positions: int = 128, **settings) -> ModelFiles:
    """Writes the folder; the embedding has four rows that no token stands for."""
    folder.mkdir(parents=True, exist_ok=True)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate([*alphabet, *SPECIAL])}
    document = {
        "model_type": "llama",
        "vocab_size": len(vocabulary) + 4,
        "max_position_embeddings": positions,
        "eos_token_id": vocabulary["<|endoftext|>"],
        **SIZES,
        **settings,
    }
    (folder / "config.json").write_text(json.dumps(document))
    base = empty_base(check_model_config(document), "causal", seed=3)
    with torch.no_grad():
        for parameter in base.parameters():  # the library's numbers are so small that every token is as likely
            parameter.mul_(8.0 if parameter.dim() == 2 else 1.0)
    state = base.state_dict()
    save_file({name: tensor.contiguous().clone() for name, tensor in state.items()}, folder / "model.safetensors")
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"eos_token": "<|endoftext|>", **({"chat_template": TEMPLATE[template]} if template else {})}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return read_model_folder(folder, folder.name)
