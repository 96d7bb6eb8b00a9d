"""Small Llama folders for tests: a token is a byte, and the weights are random or predict without any context."""

import json
import math

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

from fedward.client.models.adapter_model import empty_base
from fedward.client.models.registry import check_model_config, read_model_folder

MARKS = ("<pad>", "<s>", "</s>", "<|im_start|>", "<|im_end|>")
_TURN = '"<|im_start|>" + message["role"] + "\\n" + message["content"] + "<|im_end|>" + "\\n"'
CHATML = (
    "{% for message in messages %}{{ " + _TURN + " }}{% endfor %}"
    '{% if add_generation_prompt %}{{ "<|im_start|>assistant\\n" }}{% endif %}'
)


def byte_tokenizer(*, begin=False):
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: n for n, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(MARKS))
    if begin:
        one = [("<s>", tokenizer.token_to_id("<s>"))]
        tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A $B", special_tokens=one)
    return tokenizer


def llama_document(tokenizer, *, hidden=16, layers=3, positions=128, **more):
    return {
        "model_type": "llama",
        "vocab_size": tokenizer.get_vocab_size(),
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": positions,
        "pad_token_id": tokenizer.token_to_id("<pad>"),
        "eos_token_id": tokenizer.token_to_id("</s>"),
        "tie_word_embeddings": False,
        **more,
    }


def write_llama(folder, *, template=CHATML, begin=False, bits=None, tokenizer_config=None, **config):
    """A random Llama; with ``bits``, each token costs what this says by its text, 12 bits if it says nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = byte_tokenizer(begin=begin)
    document = llama_document(tokenizer, **config)
    model = empty_base(check_model_config(document), "causal", seed=3)
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    if bits is not None:
        tokens = [tokenizer.id_to_token(n) for n in range(document["vocab_size"])]
        flatten_to(state, torch.tensor([bits.get(token, 12.0) for token in tokens]), rest=tokens.index("<pad>"))
    if document["tie_word_embeddings"]:
        del state["lm_head.weight"]
    save_file(state, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(document))
    tokenizer.save(str(folder / "tokenizer.json"))
    said = {"eos_token": "</s>"} | ({} if template is None else {"chat_template": template})
    (folder / "tokenizer_config.json").write_text(json.dumps(said if tokenizer_config is None else tokenizer_config))
    return read_model_folder(folder, folder.name)


def flatten_to(state, bits, *, rest):
    """Makes every position predict 2 ** -bits: hidden states are all ones. The token ``rest`` gets what is left."""
    bits[rest] = math.inf
    bits[rest] = -torch.log2(1.0 - torch.exp2(-bits.double()).sum()).float()
    for name, tensor in state.items():
        tensor.zero_() if "proj" in name else tensor.fill_(1.0)
    width = state["lm_head.weight"].shape[1]
    probabilities = -bits * math.log(2)
    state["lm_head.weight"] = (probabilities[:, None] / width).repeat(1, width).contiguous()


def surprise(letters, others=()):
    """Nats of a text of so many cheap tokens (5 bits each) and of others by their bits."""
    return (5 * letters + sum(others)) * math.log(2)


LETTERS = dict.fromkeys("abcdefghijklmnopqrstuvwxyzĠ", 5.0)
