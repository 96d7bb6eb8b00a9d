"""A small random model folder of each family with its own word tokenizer, written once per session."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from fedward.client.models.adapter_model import empty_base
from fedward.client.models.families import FAMILIES
from fedward.client.models.registry import ModelFiles, check_model_config, read_model_folder

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
CONFIGS["roberta"] = CONFIGS["bert"]


def config_document(family: str, config: dict | None = None) -> dict:
    return {
        "model_type": family,
        "architectures": ["Any"],
        "vocab_size": len(SPECIAL) + len(WORDS),
        "max_position_embeddings": 34,
        "pad_token_id": 0,
        **(config or CONFIGS[family]),
    }


@pytest.fixture(scope="session")
def make_model(tmp_path_factory) -> Callable[[str], ModelFiles]:
    """Returns a builder: family -> files of a random tiny model; ``config`` gives the sizes of a toy family."""
    built: dict[str, ModelFiles] = {}

    def make(family: str = "bert", config: dict | None = None) -> ModelFiles:
        if family not in built:
            folder = tmp_path_factory.mktemp(f"tiny-{family}")
            write_model(folder, config_document(family, config))
            built[family] = read_model_folder(folder, folder.name)
        return built[family]

    return make


@pytest.fixture(scope="session")
def tiny(make_model) -> ModelFiles:
    return make_model("bert")


@pytest.fixture(params=sorted(FAMILIES))
def document(request) -> dict:
    """The configuration of a tiny model, of each family in turn."""
    return config_document(request.param)


def write_model(folder: Path, document: dict, words: tuple[str, ...] = ()) -> None:
    """Writes a random model; ``words`` are known to its tokenizer beside :data:`WORDS`."""
    document = {**document, "vocab_size": document["vocab_size"] + len(words)}
    (folder / "config.json").write_text(json.dumps(document))
    encoder = empty_base(check_model_config(document), seed=3)
    save_file(
        {name: tensor.contiguous() for name, tensor in encoder.state_dict().items()}, folder / "model.safetensors"
    )
    vocabulary = {word: number for number, word in enumerate([*SPECIAL, *WORDS, *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
