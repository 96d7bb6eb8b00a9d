import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from fedward.client.models.adapter_files import (
    adapter_files_hash,
    load_adapter,
    read_card,
    save_adapter,
)
from fedward.client.models.adapter_model import (
    LoraSettings,
    build,
    get_vector,
    last_token,
    layout_of,
    mean_pool,
    set_vector,
)
from fedward.client.models.families import FAMILIES
from fedward.client.models.inputs import TokenInputs
from fedward.client.models.tokens import tokenize
from fedward.tasks.task import Head
from tests.codes import raises
from tests.unit.client.models.conftest import targets_of

ONE_VECTOR = sorted(name for name, family in FAMILIES.items() if "sequence" in family.heads)
TEXTS = ["age 70s . male . micu . lactate high . sepsis", "age 40s . female", "no fever . creatinine normal . cough"]
SETTINGS = [
    LoraSettings(),
    LoraSettings(rank=3, top_layers=2, train_a=False, rank_stabilised=True),
    LoraSettings(rank=3, top_layers=2, targets=("feed_forward_up", "feed_forward_down")),
]


def trained(files, lora=SETTINGS[0]):
    model = build(files, lora, seed=4)
    set_vector(model, np.random.default_rng(1).normal(0, 0.3, layout_of(model).size).astype(np.float32))
    return model


@pytest.fixture
def saved(tiny, tmp_path):
    save_adapter(trained(tiny), tmp_path / "adapter", base=tiny, card="card", task="los3", max_tokens=16)
    return tmp_path / "adapter"


@pytest.mark.parametrize("family", ONE_VECTOR)
@pytest.mark.parametrize("lora", SETTINGS)
def test_plain_peft_reproduces_the_predictions_exactly(make_model, tmp_path, family, lora):
    from peft import PeftModel
    from transformers import AutoModel

    files, lora = make_model(family), replace(lora, targets=targets_of(family, *lora.targets))
    model = trained(files, lora)
    save_adapter(model, tmp_path / "adapter", base=files, card="# Adapter\n", task="los3", max_tokens=16)
    tokens = tokenize(files, TEXTS, max_tokens=16)
    ids, mask = torch.from_numpy(tokens.input_ids), torch.from_numpy(tokens.attention_mask)
    with torch.no_grad():
        expected = torch.sigmoid(model(ids, mask))
        plain = PeftModel.from_pretrained(AutoModel.from_pretrained(files.folder), str(tmp_path / "adapter")).eval()
        head = load_file(tmp_path / "adapter" / "head.safetensors")
        pool = mean_pool if model.config.family.pooling == "mean" else last_token
        pooled = pool(plain(input_ids=ids, attention_mask=mask).last_hidden_state, mask)
        linear = torch.nn.functional.linear(pooled, torch.tensor(head["weight"]), torch.tensor(head["bias"]))
    assert torch.equal(torch.sigmoid(linear.squeeze(-1)), expected)
    assert expected.std() > 1e-4


@pytest.mark.parametrize("lora", SETTINGS)
def test_round_trip(tiny, tmp_path, lora):
    model = trained(tiny, lora)
    digest = save_adapter(model, tmp_path / "adapter", base=tiny, card="card", task="los3", max_tokens=16)
    loaded = load_adapter(tmp_path / "adapter", base=tiny)
    assert loaded.lora == lora
    assert np.array_equal(get_vector(loaded), get_vector(model))
    inputs = TokenInputs(tokenize(tiny, TEXTS, max_tokens=16))
    assert torch.equal(inputs.outputs(loaded, np.arange(3)), inputs.outputs(model, np.arange(3)))
    assert digest == adapter_files_hash(tmp_path / "adapter")
    assert (tmp_path / "adapter" / "README.md").read_text() == "card"


@pytest.mark.parametrize("head", [Head(outputs=3), Head("token", 4)])
def test_a_head_of_several_outputs_round_trips(tiny, tmp_path, head):
    model = trained(tiny, LoraSettings(rank=2, head=head))
    save_adapter(model, tmp_path / "adapter", base=tiny, card="card", task="los3", max_tokens=16)
    card, loaded = read_card(tmp_path / "adapter"), load_adapter(tmp_path / "adapter", base=tiny)
    assert card.settings().head == loaded.lora.head == head
    assert load_file(tmp_path / "adapter" / "head.safetensors")["weight"].shape == (head.outputs, 16)
    inputs = TokenInputs(tokenize(tiny, TEXTS, max_tokens=16))
    logits = inputs.outputs(loaded, np.arange(3))
    tokens = int(inputs.shapes.max())
    assert logits.shape == ((3, tokens, 4) if head.kind == "token" else (3, 3))
    assert torch.equal(logits, inputs.outputs(model, np.arange(3)))


def test_cards_without_a_head_are_those_of_one_output(tiny, saved):
    path = saved / "fedward.json"
    document = json.loads(path.read_text())
    del document["head"]
    path.write_text(json.dumps(document))
    assert read_card(saved).settings().head == Head()
    assert np.array_equal(get_vector(load_adapter(saved, base=tiny)), get_vector(trained(tiny)))


def test_another_pooling_than_the_family_has_is_refused(tiny, saved):
    path = saved / "fedward.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"pooling": "last"}))
    with raises("FW-MODEL-005", match="reads texts"):
        load_adapter(saved, base=tiny)


def test_saving_twice_writes_the_same_bytes(tiny, tmp_path):
    for name in ("one", "two"):
        save_adapter(trained(tiny), tmp_path / name, base=tiny, card="card", task="los3", max_tokens=16)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_no_path_of_this_machine_is_written(tiny, saved):
    for path in saved.iterdir():
        assert str(tiny.folder).encode() not in path.read_bytes()


def test_an_existing_folder_is_not_overwritten(tiny, saved):
    with raises("FW-CONFIG-005"):
        save_adapter(trained(tiny), saved, base=tiny, card="other", task="los3", max_tokens=16)
    assert (saved / "README.md").read_text() == "card"


def test_a_failed_save_leaves_nothing(tiny, tmp_path):
    model = trained(tiny)
    vector = get_vector(model)
    vector[0] = np.nan
    set_vector(model, vector)
    with raises("FW-MODEL-005"):
        save_adapter(model, tmp_path / "adapter", base=tiny, card="card", task="los3", max_tokens=16)
    assert list(tmp_path.iterdir()) == []


def test_another_base_model_is_refused(make_model, saved):
    with raises("FW-MODEL-005", match="another version"):
        load_adapter(saved, base=make_model("roberta"))


@pytest.mark.parametrize("change", ["missing", "extra", "shape"])
def test_wrong_tensors_are_refused(tiny, saved, change):
    path = saved / "adapter_model.safetensors"
    tensors = load_file(path)
    name = sorted(tensors)[0]
    value = tensors.pop(name)
    if change == "extra":
        tensors |= {name: value, name.replace("layer.0", "layer.9"): value}
    elif change == "shape":
        tensors[name] = value[:-1].copy()
    save_file(tensors, path)
    with raises("FW-MODEL-005"):
        load_adapter(saved, base=tiny)


@pytest.mark.parametrize("damage", ["unreadable", "unknown key", "absent", "weights"])
def test_damaged_folders_are_refused(tiny, saved, tmp_path, damage):
    copy = tmp_path / "copy"
    shutil.copytree(saved, copy)
    card = copy / "fedward.json"
    if damage == "unreadable":
        card.write_text("{")
    elif damage == "unknown key":
        card.write_text(json.dumps(json.loads(card.read_text()) | {"auto_map": "x"}))
    elif damage == "absent":
        card.unlink()
    else:
        (copy / "head.safetensors").write_bytes(b"12345678")
    with raises("FW-MODEL-005"):
        load_adapter(copy, base=tiny)
