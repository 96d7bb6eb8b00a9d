"""Adapters of plain peft: the numbers that peft gives, or a refusal with names; never a base model in their place."""

import json

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file

from fedward.client.models.adapter_model import empty_base, load_base
from fedward.client.models.peft_adapters import CONFIG_FILE, WEIGHTS_FILE, is_peft_adapter, load_peft_adapter
from fedward.client.models.registry import check_model_config, read_model_folder
from fedward.tasks.task import Head
from tests.codes import raises

CONFIG = {
    "model_type": "llama", "vocab_size": 48, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 3,
    "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 32, "eos_token_id": 1,
}  # fmt: skip
CAUSAL = Head("causal", outputs=0)


@pytest.fixture(scope="module")
def files(tmp_path_factory, tiny):
    folder = tmp_path_factory.mktemp("llama")
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "tokenizer.json").write_bytes((tiny.folder / "tokenizer.json").read_bytes())
    model = empty_base(check_model_config(CONFIG), "causal", seed=5)
    save_file({key: value.clone() for key, value in model.state_dict().items()}, folder / "model.safetensors")
    return read_model_folder(folder, "llama")


@pytest.fixture
def write(files, tmp_path):
    """Writes an adapter as peft does it; returns its folder and the model that it belongs to."""

    def make(**options):
        torch.manual_seed(7)
        options = {"r": 2, "lora_alpha": 6, "target_modules": ["q_proj", "v_proj"], **options}
        model = get_peft_model(load_base(files, "causal"), LoraConfig(task_type="CAUSAL_LM", **options))
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_" in name:
                    parameter.copy_(torch.randn_like(parameter))
        model.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
        return tmp_path / "adapter", model.eval()

    return make


@pytest.mark.parametrize(
    "options",
    [
        {}, {"target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]},
        {"use_rslora": True}, {"layers_to_transform": [1, 2]}, {"layers_to_transform": 2}, {"lora_dropout": 0.1},
        {"target_modules": ["self_attn.q_proj"]},
    ],
)  # fmt: skip
def test_a_whole_adapter_gives_the_numbers_of_peft(files, write, options):
    folder, theirs = write(**options)
    assert is_peft_adapter(folder)
    ours = load_peft_adapter(folder, files, CAUSAL)
    ids, mask = torch.arange(2, 22).reshape(2, 10), torch.ones(2, 10, dtype=torch.int64)
    with torch.no_grad():
        expected = theirs(input_ids=ids, attention_mask=mask).logits
        hidden = ours(ids, mask)
        found = ours.logits(hidden.reshape(-1, hidden.shape[-1])).reshape(expected.shape)
    assert torch.allclose(found, expected, atol=1e-6)
    assert not torch.allclose(expected, load_base(files, "causal")(ids, mask).logits, atol=1e-3)


def changed(folder, change):
    tensors = change(load_file(folder / WEIGHTS_FILE))
    save_file(tensors, folder / WEIGHTS_FILE)


LACKS = r"lacks 'model\.layers\.0"
FIRST = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda t: {k.replace("model.model.layers", "model.layers"): v for k, v in t.items()}, LACKS),
        (lambda t: {k: v for k, v in t.items() if ".0." not in k}, r"lacks 'model\.layers\.0"),
        (lambda t: {k: v for k, v in t.items() if "lora_B" not in k}, "lora_B"),
        (lambda t: {k: v for k, v in t.items() if k != FIRST}, r"q_proj\.lora_A"),
        (lambda t: t | {FIRST.replace("q_proj", "k_proj"): t[FIRST].clone()}, r"holds 'model\.layers\.0.*k_proj"),
        (lambda t: t | {FIRST.replace(".0.", ".9."): t[FIRST].clone()}, r"layers\.9"),
        (lambda t: {k.removeprefix("base_model.model."): v for k, v in t.items()}, "do not begin"),
        (lambda t: t | {"base_model.model.lm_head.weight": torch.zeros(2)}, "lm_head"),
        (lambda t: t | {"base_model.model.model.embed_tokens.weight": torch.zeros(2)}, "embed_tokens"),
        (lambda t: t | {FIRST.replace("lora_A.weight", "lora_magnitude_vector"): torch.zeros(2)}, "magnitude"),
        (lambda t: t | {FIRST: t[FIRST].T.contiguous()}, "shape"),
        (lambda t: t | {FIRST: t[FIRST] * float("nan")}, "finite"),
    ],
)  # fmt: skip
def test_tensors_that_are_missing_or_too_many_are_named(files, write, change, named):
    folder, _ = write()
    changed(folder, change)
    with raises("FW-MODEL-005", match=named):
        load_peft_adapter(folder, files, CAUSAL)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("modules_to_save", ["embed_tokens", "lm_head"]), ("use_dora", True), ("bias", "all"), ("peft_type", "IA3"),
        ("rank_pattern", {"q_proj": 4}), ("alpha_pattern", {"q_proj": 4}), ("layer_replication", [[0, 2]]),
        ("init_lora_weights", "pissa"), ("trainable_token_indices", [1]), ("invented", {"a": 1}), ("lora_bias", True),
        ("target_parameters", ["x"]), ("target_modules", ["q_proj", "nowhere"]), ("target_modules", ".*q_proj"),
        ("layers_to_transform", "x"), ("target_modules", []), ("r", "2"), ("loftq_config", {"bits": 4}),
    ],
)  # fmt: skip
def test_settings_that_would_be_ignored_are_refused(files, write, key, value):
    folder, _ = write()
    document = json.loads((folder / CONFIG_FILE).read_text()) | {key: value}
    (folder / CONFIG_FILE).write_text(json.dumps(document))
    with raises("FW-MODEL-005"):
        load_peft_adapter(folder, files, CAUSAL)


def test_saved_modules_are_named(files, write):
    folder, _ = write(modules_to_save=["lm_head"])
    with raises("FW-MODEL-005", match="lm_head"):
        load_peft_adapter(folder, files, CAUSAL)


@pytest.mark.parametrize(
    "options", [{"layers_to_transform": [0, 1]}, {"layers_to_transform": [0, 2]}, {"target_modules": ["lm_head"]}]
)
def test_places_that_the_families_do_not_adapt_are_refused(files, write, options):
    folder, _ = write(**options)
    with raises("FW-MODEL-005"):
        load_peft_adapter(folder, files, CAUSAL)


def test_half_precision_is_read(files, write):
    folder, _ = write()
    before = load_peft_adapter(folder, files, CAUSAL).state_dict()
    changed(folder, lambda t: {k: v.to(torch.bfloat16) for k, v in t.items()})
    after = load_peft_adapter(folder, files, CAUSAL).state_dict()
    assert all(after[name].dtype == torch.float32 for name in after)
    assert all(torch.allclose(before[name], after[name], rtol=1e-2) for name in before)


def test_a_damaged_folder(files, write):
    folder, _ = write()
    (folder / WEIGHTS_FILE).write_bytes(b"x")
    with raises("FW-MODEL-005"):
        load_peft_adapter(folder, files, CAUSAL)
    (folder / CONFIG_FILE).write_text("[]")
    with raises("FW-MODEL-001"):
        load_peft_adapter(folder, files, CAUSAL)
