"""Every family keeps the same gate: what its config.json may ask for, and what lies where its models say."""

import json
from operator import attrgetter
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSeq2SeqLM

from fedward.client.models import families
from fedward.client.models.adapter_model import LoraSettings, expected_layout, linear_maps, load_base, skeleton
from fedward.client.models.families import FAMILIES, NOT_COMPUTED
from fedward.client.models.families.family import Choice, Either, Number, Optional, Section, Several, Whole
from fedward.client.models.registry import check_model_config, read_model_folder
from fedward.tasks.task import Head
from tests.codes import raises
from tests.unit.client.models.conftest import all_targets, config_document, write_model

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


def admits(rule, value):
    """Whether a value that is wrong for most keys is right for this one."""
    if isinstance(rule, Optional):
        return value is None or admits(rule.rule, value)
    if isinstance(rule, Choice):
        return any(type(value) is type(each) and value == each for each in rule.values)
    if isinstance(rule, Number):
        return type(value) is float and rule.low < value < rule.high
    if isinstance(rule, Whole):
        return type(value) is int and rule.least <= value <= rule.most
    return value == [] if isinstance(rule, Several | Either) else isinstance(rule, Section) and value == {}


def test_every_allowed_key_refuses_values_of_other_types_and_sizes(document):
    for key, rule in FAMILIES[document["model_type"]].settings.items():
        for value in WRONG:
            if admits(rule, value):
                continue
            with raises("FW-MODEL-002"):
                check_model_config(document | {key: value})
            if isinstance(rule, Several):
                with raises("FW-MODEL-002"):
                    check_model_config(document | {key: [value]})


def test_every_size_must_be_there(document):
    family = FAMILIES[document["model_type"]]
    for key in family.required:
        assert key in family.settings
        with raises("FW-MODEL-002", match="lacks"):
            check_model_config({name: value for name, value in document.items() if name != key})


def test_a_width_that_its_heads_do_not_divide_is_refused(document):
    if document["model_type"] == "t5":  # its heads have a width of their own
        return
    (key,) = {"d_model", "dim", "hidden_size", "n_embd"} & document.keys()
    alone = {name: value for name, value in document.items() if name != "head_dim"}
    if "head_dim" in FAMILIES[document["model_type"]].settings:  # it says how wide a head is
        alone |= {"num_attention_heads": 3, "num_key_value_heads": 2}
    with raises("FW-MODEL-002", match="multiple|go together"):
        check_model_config(alone | {key: 15})


def test_only_checked_settings_reach_the_model_class(document):
    family = FAMILIES[document["model_type"]]
    foreign = dict.fromkeys(family.ignored - family.settings.keys() - {"model_type"}, "elsewhere") | dict.fromkeys(
        family.overridden, 0.5
    )
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
        maps, layers_path = linear_maps(config, kind), config.family.layers_at(kind)
        layers = range(len(attrgetter(layers_path)(skeleton(config, kind))))
        assert len(layers) == config.layers
        targets = all_targets(config, kind)
        assert targets == tuple(config.family.targets) or config.family.name == "t5"
        for path in (config.family.targets[target] for target in targets):
            assert all(f"{layers_path}.{layer}.{path}" in maps for layer in layers)


def test_a_head_that_the_family_lacks_is_refused_with_a_way_out(document):
    config = check_model_config(document)
    for kind in config.family.heads:
        config.check_head(Head(kind))
    lacking = "causal" if "seq2seq" in config.family.heads else "seq2seq"
    with raises("FW-MODEL-010") as caught:
        config.check_head(Head(lacking))
    assert all(kind in caught.value.message for kind in config.family.heads)


def test_a_family_is_one_file_of_its_own_name():
    folder = Path(families.__file__).parent
    assert all((folder / f"{name.replace('-', '_')}.py").is_file() for name in FAMILIES)


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
        tensors |= {"classifier.weight": first.clone(), "vocab_projector.bias": first.clone()}
        tensors |= {"cls.seq_relationship.bias": first.clone()}
        save_file(tensors, tmp_path / "model.safetensors")
    kind = next(iter(files.config().family.heads))
    loaded, plain = load_base(read_model_folder(tmp_path, "copy"), kind), load_base(files, kind)
    assert all(left.equal(right) for left, right in zip(loaded.parameters(), plain.parameters(), strict=True))


@pytest.mark.parametrize(
    ("family", "change"),
    [
        ("deberta-v2", {"conv_kernel_size": 3}),
        ("deberta-v2", {"pos_att_type": ["p2c", "p2p"]}),
        ("bart", {"normalize_before": True}),
        ("electra", {"embedding_size": 0}),
        ("t5", {"feed_forward_proj": "gated-elsewhere"}),
        ("t5", {"dense_act_fn": "evil"}),
        ("t5", {"is_encoder_decoder": False}),
        ("modernbert", {"layer_types": ["full_attention"] * 2}),
        ("modernbert", {"rope_parameters": {"full_attention": {"rope_type": "yarn"}}}),
        ("modernbert", {"sparse_prediction": True}),
        ("biogpt", {"hidden_act": "swish_from_elsewhere"}),
        ("gemma3_text", {"attn_logit_softcapping": 50.0}),
        ("gemma3_text", {"final_logit_softcapping": 30.0}),
        ("gemma3_text", {"layer_types": ["full_attention"]}),
        ("gemma3_text", {"layer_types": ["chunked_attention"] * 3}),
        ("gemma3_text", {"use_bidirectional_attention": True}),
        ("glm", {"partial_rotary_factor": 1.5}),
        ("glm4", {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}),
        ("gpt2", {"add_cross_attention": True}),
        ("mistral", {"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}),
        ("mistral", {"sliding_window": 2**40}),
        ("phi3", {"rope_scaling": {"type": "longrope", "short_factor": [1.0], "long_factor": [1.0]}}),
        ("phi3", {"auto_map": {"AutoModelForCausalLM": "modeling_phi3.Phi3ForCausalLM"}}),
        ("qwen2", {"use_sliding_window": True}),
        ("qwen3", {"layer_types": ["sliding_attention"] * 3}),
        ("qwen3", {"rope_parameters": {"rope_type": "longrope", "rope_theta": 1e4}}),
    ],
)
def test_what_a_family_does_not_compute_is_refused(family, change):
    document, kind = config_document(family), next(iter(FAMILIES[family].heads))
    skeleton(check_model_config(document), kind)
    with raises("FW-MODEL-002"):
        skeleton(check_model_config(document | change), kind)


@pytest.mark.parametrize("prefixed", [True, False])
@pytest.mark.parametrize("kind", ["sequence", "causal"])
def test_old_files_of_gpt2_are_read(make_model, tmp_path, prefixed, kind):
    files = make_model("gpt2", kind="causal")
    for path in files.folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    tensors = load_file(tmp_path / "model.safetensors")
    masks = {f"transformer.h.{n}.attn.{name}": torch.ones(1) for n in range(3) for name in ("bias", "masked_bias")}
    tensors = {name: tensor for name, tensor in (tensors | masks).items() if name != "lm_head.weight"}
    if not prefixed:
        tensors = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
    save_file(tensors, tmp_path / "model.safetensors")
    loaded, plain = (load_base(each, kind).state_dict() for each in (read_model_folder(tmp_path, "old"), files))
    assert all(tensor.equal(plain[name]) for name, tensor in loaded.items())


@pytest.mark.parametrize("held", ["twice", "once", "differently"])
def test_an_output_layer_that_is_the_word_embedding_is_checked(make_model, tmp_path, held):
    files = make_model("gpt2", kind="causal")
    for path in files.folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    tensors = load_file(tmp_path / "model.safetensors")
    assert tensors["lm_head.weight"].equal(tensors["transformer.wte.weight"])
    if held == "differently":
        tensors["lm_head.weight"][3, 3] += 1
    if held == "once":
        del tensors["transformer.wte.weight"]
    save_file(tensors, tmp_path / "model.safetensors")
    if held == "differently":
        with raises("FW-MODEL-001", match="two versions"):
            load_base(read_model_folder(tmp_path, "copy"), "causal")
        return
    base = load_base(read_model_folder(tmp_path, "copy"), "causal")
    assert base.lm_head.weight is base.transformer.wte.weight
    assert base.lm_head.weight.equal(load_base(files, "causal").lm_head.weight)


@pytest.mark.parametrize("kind", ["sequence", "masked"])
def test_old_files_of_bert_are_read(make_model, tmp_path, kind):
    """Other names of normalisations, and an output that is only there as the word embedding and its bias."""
    files = make_model("bert", kind="masked")
    for path in files.folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    tensors = load_file(tmp_path / "model.safetensors")
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    renamed = {}
    for name, tensor in tensors.items():
        if not name.startswith("cls.predictions.decoder"):
            ending = next((each for each in old if name.endswith(each)), "")
            renamed[name.removesuffix(ending) + old.get(ending, "")] = tensor
    renamed["bert.pooler.dense.weight"] = torch.ones(16, 16)
    renamed["cls.seq_relationship.bias"] = torch.ones(2)
    save_file(renamed, tmp_path / "model.safetensors")
    loaded, plain = (load_base(each, kind).state_dict() for each in (read_model_folder(tmp_path, "old"), files))
    assert loaded.keys() == plain.keys()
    assert all(tensor.equal(plain[name]) for name, tensor in loaded.items())


def test_a_model_that_was_saved_without_its_output_is_refused(make_model):
    with raises("FW-MODEL-001", match="'masked' head"):
        load_base(make_model("electra", kind="sequence"), "masked")


@pytest.mark.parametrize("family", ["bart", "t5"])
def test_old_files_of_encoders_with_decoders_are_read(make_model, tmp_path, family):
    files = make_model(family, kind="seq2seq")
    for path in files.folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    tensors = load_file(tmp_path / "model.safetensors")
    kept = {name.removeprefix("model."): tensor for name, tensor in tensors.items() if "embed_tokens" not in name}
    for name in ("final_logits_bias", "lm_head.weight"):
        kept.pop(name, None)
    kept["decoder.version"] = torch.ones(1)
    kept["decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"] = torch.ones(8, 4)
    if family == "t5":
        del kept["decoder.version"]
    else:
        del kept["decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"]
    save_file(kept, tmp_path / "model.safetensors")
    loaded, plain = (load_base(each, "seq2seq").state_dict() for each in (read_model_folder(tmp_path, "old"), files))
    assert all(tensor.equal(plain[name]) for name, tensor in loaded.items())


def test_later_versions_of_t5_have_an_output_of_their_own(tmp_path):
    change = {"tie_word_embeddings": False, "feed_forward_proj": "gated-gelu", "dense_act_fn": "gelu_new"}
    write_model(tmp_path, config_document("t5") | change, kind="seq2seq")
    files = read_model_folder(tmp_path, "t5")
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["lm_head.weight"] = torch.randn_like(tensors["lm_head.weight"])
    save_file(tensors, tmp_path / "model.safetensors")
    base = load_base(files, "seq2seq")
    assert base.lm_head.weight.equal(tensors["lm_head.weight"])
    assert base.decoder.embed_tokens.weight.equal(tensors["shared.weight"])
    theirs = AutoModelForSeq2SeqLM.from_pretrained(tmp_path).eval()
    ids = torch.arange(5, 11).unsqueeze(0)
    with torch.no_grad():
        found, expected = (model(input_ids=ids, decoder_input_ids=ids).logits for model in (base, theirs))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    with raises("FW-MODEL-007", match="'feed_forward_up'"):
        expected_layout(files.config(), LoraSettings(rank=2, targets=("feed_forward_up",), head=Head("seq2seq")))
    targets = ("feed_forward_gate", "feed_forward_linear", "feed_forward_down")
    assert expected_layout(files.config(), LoraSettings(rank=2, targets=targets, head=Head("seq2seq"))).size > 0


@pytest.mark.parametrize(
    ("name", "nearest"), [("chatglm", "ChatGLM3-6B"), ("baichuan", "Baichuan2-7B"), ("opt", "gpt2")]
)
def test_what_no_family_computes_is_refused_with_the_nearest_that_is(name, nearest):
    with raises("FW-MODEL-002") as caught:
        check_model_config({"model_type": name, "auto_map": {"AutoModel": "modeling.Model"}})
    assert nearest in caught.value.fix
    assert not NOT_COMPUTED.keys() & FAMILIES.keys()


def test_the_guide_lists_every_family_with_its_heads_and_targets():
    lines = (Path(__file__).parents[4] / "docs" / "adding-a-model-family.md").read_text(encoding="utf-8").splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| `")]
    found = {row[0].strip("`"): (row[2], row[3]) for row in cells}
    for name, family in FAMILIES.items():
        assert found.pop(name) == (", ".join(family.heads), ", ".join(f"`{target}`" for target in family.targets)), name
    assert not found


PUBLISHED = json.loads((Path(__file__).parents[3] / "fixtures" / "published_configs.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_configurations_pass_and_describe_a_model(name):
    config = check_model_config(PUBLISHED[name])
    for kind in config.family.heads:
        assert linear_maps(config, kind)
        assert len(all_targets(config, kind)) >= 4
