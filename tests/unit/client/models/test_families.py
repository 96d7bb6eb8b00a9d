"""Every family keeps the same gate: what its config.json may ask for, and what lies where its models say."""

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from fedward.client.models import families
from fedward.client.models.adapter_model import linear_maps, load_base, skeleton, transformer_layers
from fedward.client.models.families import FAMILIES
from fedward.client.models.families.family import Optional, Section, Whole
from fedward.client.models.registry import check_model_config, read_model_folder
from fedward.tasks.task import Head
from tests.codes import raises

FOREIGN = {
    "auto_map": {"AutoModel": "evil.Model"},
    "_attn_implementation_internal": "someone/kernel",
    "attn_implementation": "someone/kernel",
    "_attn_implementation": "flash_attention_2",
    "custom_pipelines": {},
    "quantization_config": {},
    "adapter_config": {},
    "trust_remote_code": True,
    "architecture": "x",
    "model_type": "evil",
    "is_decoder": True,
    "is_encoder_decoder": 1,
    "position_embedding_type": "relative_key",
    "pad_token_id": 10_000,
    "vocab_size": 2**40,
    "\x1b[31mred": 1,
}
WRONG = (True, False, "12", 1.5, -1, 2**40, float("nan"), float("inf"), [], {}, None)


@pytest.mark.parametrize("key", FOREIGN)
def test_configurations_outside_the_allow_list_are_refused(document, key):
    assert check_model_config(document).hidden == 16
    with raises("FW-MODEL-002") as caught:
        check_model_config(document | {key: FOREIGN[key]})
    assert "\x1b" not in caught.value.message


def test_every_allowed_key_refuses_values_of_other_types_and_sizes(document):
    for key, rule in FAMILIES[document["model_type"]].settings.items():
        for value in WRONG:
            if value is None and isinstance(rule, Optional):
                continue
            if value is False and False in getattr(rule, "values", ()):
                continue
            with raises("FW-MODEL-002"):
                check_model_config(document | {key: value})


def test_every_size_must_be_there(document):
    family = FAMILIES[document["model_type"]]
    for key in family.required:
        assert key in family.settings
        with raises("FW-MODEL-002", match="lacks"):
            check_model_config({name: value for name, value in document.items() if name != key})


def test_a_width_that_its_heads_do_not_divide_is_refused(document):
    key = "dim" if "dim" in document else "hidden_size"
    with raises("FW-MODEL-002", match="multiple"):
        check_model_config(document | {key: 15})


def test_only_checked_settings_reach_the_model_class(document):
    family = FAMILIES[document["model_type"]]
    foreign = dict.fromkeys(family.ignored - {"model_type"}, "elsewhere") | dict.fromkeys(family.overridden, 0.5)
    settings = check_model_config(document | foreign).settings
    assert settings.keys() <= family.settings.keys() | family.overridden.keys()
    assert all(settings[key] == 0 for key in family.overridden)


def test_nested_sections_have_allow_lists_of_their_own():
    rule = Section({"kind": Whole(), "size": Whole()}, required=frozenset({"kind"}))
    assert rule.check("rope", {"kind": 1, "size": 2}) == {"kind": 1, "size": 2}
    for value in ([], {}, {"size": 2}, {"kind": True}, {"kind": 1, "x": 1}, {"kind": 1, "size": "2"}):
        with raises("FW-MODEL-002"):
            rule.check("rope", value)


def test_every_target_is_a_linear_map_of_every_layer(document):
    config = check_model_config(document)
    for kind in config.family.heads:
        maps = linear_maps(config, kind)
        layers = range(len(transformer_layers(skeleton(config, kind), config)))
        assert len(layers) == config.layers
        for path in config.family.targets.values():
            assert all(f"{config.family.layers_path}.{layer}.{path}" in maps for layer in layers)


def test_a_head_that_the_family_lacks_is_refused_with_a_way_out(document):
    config = check_model_config(document)
    for kind in config.family.heads:
        config.check_head(Head(kind))
    with raises("FW-MODEL-010") as caught:
        config.check_head(Head("seq2seq"))
    assert caught.value.code == "FW-MODEL-010"
    assert "sequence" in caught.value.message


def test_a_family_is_one_file_of_its_own_name():
    folder = Path(families.__file__).parent
    assert all((folder / f"{name}.py").is_file() for name in FAMILIES)


def test_huge_sizes_cost_no_memory(make_model, tmp_path):
    files = make_model("bert")
    for path in files.folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    document = json.loads((tmp_path / "config.json").read_text())
    large = {"vocab_size": 2**20, "hidden_size": 2**20, "intermediate_size": 2**20}
    (tmp_path / "config.json").write_text(json.dumps(document | large))
    with raises("FW-MODEL-001", match="describes"):
        load_base(read_model_folder(tmp_path, "large"))


@pytest.mark.parametrize("stored", ["as saved", "under a task model"])
def test_checkpoints_with_a_task_head_are_read(make_model, tmp_path, document, stored):
    files = make_model(document["model_type"])
    for path in files.folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    tensors = load_file(tmp_path / "model.safetensors")
    if stored == "under a task model":
        first = next(iter(tensors.values()))
        tensors = {f"{files.config().family.prefix}{name}": tensor for name, tensor in tensors.items()}
        tensors |= {"classifier.weight": first.clone(), "lm_head.bias": first.clone()}
        save_file(tensors, tmp_path / "model.safetensors")
    loaded, plain = load_base(read_model_folder(tmp_path, "copy")), load_base(files)
    assert all(left.equal(right) for left, right in zip(loaded.parameters(), plain.parameters(), strict=True))
