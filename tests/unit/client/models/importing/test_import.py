"""A whole import: every form of weights becomes the same model, and whatever is strange leaves no folder behind."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from fedward.client.models.adapter_model import empty_base, load_base
from fedward.client.models.importing import command
from fedward.client.models.importing.command import import_model, run_confined
from fedward.client.models.importing.convert import convert
from fedward.client.models.registry import WEIGHTS, check_model_config, read_model_folder
from fedward.client.models.templates import TEMPLATES, template_of
from tests.codes import raises
from tests.foreign_models import archive, gguf, gguf_keys, gguf_tensors, name, program, word

CONFIG = {
    "model_type": "llama", "vocab_size": 48, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2,
    "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 32, "tie_word_embeddings": False,
    "eos_token_id": 1, "pad_token_id": 0,
}  # fmt: skip


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch):
    """Most tests convert in their own process: a new one takes a second."""
    monkeypatch.setattr(command, "run_confined", convert)


@pytest.fixture(scope="module")
def published(tmp_path_factory, tiny):
    """A Llama folder with safetensors, as authors publish one."""
    folder = tmp_path_factory.mktemp("published")
    (folder / "config.json").write_text(json.dumps(CONFIG))
    save_file(state(), folder / WEIGHTS)
    shutil.copy(tiny.folder / "tokenizer.json", folder)
    settings = {"eos_token": "[SEP]", "pad_token": {"content": "[PAD]"}, "auto_map": {"AutoTokenizer": ["x.py", None]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "LICENSE").write_text("free")
    (folder / "modeling.py").write_text("raise SystemExit")
    return folder


def state(**config):
    document = CONFIG | config
    model = empty_base(check_model_config(document), "causal", seed=5)
    return {key: value.contiguous().clone() for key, value in model.state_dict().items()}


@pytest.fixture
def folder(published, tmp_path):
    return shutil.copytree(published, tmp_path / "folder")


def same(files, expected):
    loaded = load_base(files, "causal").state_dict()
    return loaded.keys() == expected.keys() and all(torch.equal(loaded[key], expected[key]) for key in loaded)


def as_bin(folder, **options):
    torch.save(load_file(folder / WEIGHTS), folder / "pytorch_model.bin", **options)
    (folder / WEIGHTS).unlink()


def as_parts(folder, ending):
    tensors = load_file(folder / WEIGHTS)
    (folder / WEIGHTS).unlink()
    names = sorted(tensors)
    stem = "model" if ending == "safetensors" else "pytorch_model"
    placed = {}
    for part, held in enumerate((names[:5], names[5:]), 1):
        file = f"{stem}-{part:05d}-of-00002.{ending}"
        chosen = {key: tensors[key] for key in held}
        save_file(chosen, folder / file) if ending == "safetensors" else torch.save(chosen, folder / file)
        placed |= dict.fromkeys(held, file)
    index = f"{stem}.{ending}.index.json"
    (folder / index).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": placed}))
    return folder / index


FORMS = {
    "safetensors": lambda folder: None,
    "parts": lambda folder: as_parts(folder, "safetensors"),
    "bin": as_bin,
    "old bin": lambda folder: as_bin(folder, _use_new_zipfile_serialization=False),
    "bin in parts": lambda folder: as_parts(folder, "bin"),
}


def test_the_command_converts_in_a_process_of_its_own(folder, tmp_path, monkeypatch):
    expected = load_file(folder / WEIGHTS)
    as_bin(folder)
    monkeypatch.setattr(command, "run_confined", run_confined)
    lines = []
    assert same(import_model(folder, tmp_path / "out", lines.append), expected)
    assert len(lines) == 2


@pytest.mark.parametrize("form", FORMS)
def test_every_form_becomes_the_same_model(folder, tmp_path, form):
    expected = load_file(folder / WEIGHTS)
    FORMS[form](folder)
    files = import_model(folder, tmp_path / "out")
    assert same(files, expected)
    written = {"LICENSE", "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == written
    settings = json.loads((tmp_path / "out" / "tokenizer_config.json").read_text())
    assert settings == {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "[SEP]", "pad_token": "[PAD]"}
    assert files == read_model_folder(tmp_path / "out", "out")
    assert not list(tmp_path.glob(".import-*"))


def test_bfloat16_keeps_its_bits(folder, tmp_path):
    halves = {key: value.to(torch.bfloat16) for key, value in load_file(folder / WEIGHTS).items()}
    save_file(halves, folder / WEIGHTS)
    as_bin(folder)
    import_model(folder, tmp_path / "out")
    written = load_file(tmp_path / "out" / WEIGHTS)
    assert all(torch.equal(written[key], halves[key]) and written[key].dtype == torch.bfloat16 for key in halves)


@pytest.mark.parametrize("both", [True, False])
def test_a_tied_output_layer_survives(folder, tmp_path, both):
    (folder / "config.json").write_text(json.dumps(CONFIG | {"tie_word_embeddings": True}))
    tensors = state(tie_word_embeddings=True)
    if not both:
        del tensors["lm_head.weight"]
    save_file(tensors, folder / WEIGHTS)
    as_bin(folder)
    model = load_base(import_model(folder, tmp_path / "out"), "causal")
    assert torch.equal(model.lm_head.weight, tensors["model.embed_tokens.weight"])
    assert model.lm_head.weight is model.model.embed_tokens.weight


def test_a_tied_output_layer_that_differs_is_refused(folder, tmp_path):
    (folder / "config.json").write_text(json.dumps(CONFIG | {"tie_word_embeddings": True}))
    with raises("FW-MODEL-001"):
        import_model(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_buffers_and_keys_of_old_files_are_left_away(folder, tmp_path):
    tensors = load_file(folder / WEIGHTS)
    save_file(tensors | {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(2)}, folder / WEIGHTS)
    (folder / "config.json").write_text(json.dumps(CONFIG | {"temperature": 0.5, "max_length": 20}))
    assert same(import_model(folder, tmp_path / "out"), tensors)


def test_a_second_end_token_of_the_generation_is_kept(folder, tmp_path):
    (folder / "generation_config.json").write_text('{"eos_token_id": [1, 3], "do_sample": true}')
    import_model(folder, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "config.json").read_text())["eos_token_id"] == [1, 3]


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda template: template.name)
@pytest.mark.parametrize("place", ["tokenizer_config.json", "chat_template.jinja", "list"])
def test_known_templates_survive(folder, tmp_path, template, place, monkeypatch):
    monkeypatch.setattr(command, "check_model", lambda files: None)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    if place == "chat_template.jinja":
        (folder / place).write_text(template.source.replace("\\n", "\n"))
    else:
        named = [{"name": "rag", "template": "{{ 1 }}"}, {"name": "default", "template": template.source}]
        settings["chat_template"] = named if place == "list" else template.source.replace("\\n", "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    assert template_of(import_model(folder, tmp_path / "out")) is template


@pytest.mark.parametrize("place", ["tokenizer_config.json", "chat_template.jinja", "chat_template.json"])
def test_unknown_templates_are_refused_and_never_run(folder, tmp_path, place):
    program = "{{ ''.__class__.__mro__ }}"
    text = program if place.endswith("jinja") else json.dumps({"chat_template": program, "eos_token": "[SEP]"})
    (folder / place).write_text(text)
    with raises("FW-MODEL-011", match="folder"):
        import_model(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_tokenizer_larger_than_the_embedding_is_refused_with_both_numbers(folder, tmp_path):
    entries = len(json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"])
    (folder / "config.json").write_text(json.dumps(CONFIG | {"vocab_size": entries - 1}))
    save_file(state(vocab_size=entries - 1), folder / WEIGHTS)
    with raises("FW-MODEL-012", match=f"{entries} entries.* {entries - 1} rows"):
        import_model(folder, tmp_path / "out")


def test_a_hostile_bin_touches_nothing(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(command, "run_confined", run_confined)
    (folder / WEIGHTS).unlink()
    call = name("os", "system") + b"(" + word(f"touch {tmp_path}/hacked") + b"tR"
    archive(folder / "pytorch_model.bin", program({"a": call}))
    with raises("FW-MODEL-013", match="os.system"):
        import_model(folder, tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"folder"}


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", WEIGHTS, "chat_template.jinja", "LICENSE", "m.gguf"])
def test_links_are_refused(folder, tmp_path, file):
    outside = tmp_path / "outside"
    (folder / file).rename(outside) if (folder / file).exists() else outside.write_text("x")
    (folder / file).symlink_to(outside)
    if file == "m.gguf":
        (folder / WEIGHTS).unlink()
    with raises("FW-MODEL-016", match="link"):
        import_model(folder, tmp_path / "out")


@pytest.mark.parametrize("part", ["../x.bin", "/etc/passwd", "a/b.bin", "model.safetensors", "..", "", 7, None])
def test_an_index_names_weights_of_its_folder_alone(folder, tmp_path, part):
    index = as_parts(folder, "bin")
    document = json.loads(index.read_text())
    document["weight_map"] = dict.fromkeys(document["weight_map"], part)
    index.write_text(json.dumps(document))
    with raises("FW-MODEL-016"):
        import_model(folder, tmp_path / "out")


@pytest.mark.parametrize("change", ["missing", "more", "moved"])
def test_parts_hold_what_the_index_says(folder, tmp_path, change):
    index = as_parts(folder, "bin")
    document = json.loads(index.read_text())
    first, *_, last = sorted(document["weight_map"])
    if change == "missing":
        document["weight_map"]["more.weight"] = document["weight_map"][first]
    elif change == "more":
        del document["weight_map"][first]
    else:
        document["weight_map"][first] = document["weight_map"][last]
    index.write_text(json.dumps(document))
    with raises("FW-MODEL-013"):
        import_model(folder, tmp_path / "out")


def test_weights_that_are_no_numbers_are_refused(folder, tmp_path):
    tensors = load_file(folder / WEIGHTS)
    tensors["model.norm.weight"][3] = float("nan")
    save_file(tensors, folder / WEIGHTS)
    with raises("FW-MODEL-013", match=r"model\.norm\.weight"):
        import_model(folder, tmp_path / "out")


def test_tensors_that_the_configuration_does_not_describe_are_refused(folder, tmp_path):
    save_file(load_file(folder / WEIGHTS) | {"model.layers.7.more": torch.ones(2)}, folder / WEIGHTS)
    with raises("FW-MODEL-001"):
        import_model(folder, tmp_path / "out")


@pytest.mark.parametrize("key", ["auto_map", "quantization_config", "attn_logit_softcapping"])
def test_keys_that_could_change_the_model_are_refused(folder, tmp_path, key):
    (folder / "config.json").write_text(json.dumps(CONFIG | {key: {}}))
    with raises("FW-MODEL-002", match=key):
        import_model(folder, tmp_path / "out")


def test_what_is_there_already_is_left_alone(folder, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("x")
    with raises("FW-CONFIG-005"):
        import_model(folder, tmp_path / "out")
    with raises("FW-CONFIG-004"):
        import_model(tmp_path / "none", tmp_path / "new")
    assert (tmp_path / "out" / "mine").read_text() == "x"


def test_a_gguf_file_becomes_a_model(tmp_path):
    (tmp_path / "in").mkdir()
    gguf(tmp_path / "in" / "m.gguf", gguf_keys(), gguf_tensors())
    files = import_model(tmp_path / "in", tmp_path / "out")
    assert load_base(files, "causal").lm_head.weight.shape == (260, 8)
    gguf(tmp_path / "in" / "n.gguf", gguf_keys(), gguf_tensors())
    with raises("FW-MODEL-016", match="several"):
        import_model(tmp_path / "in", tmp_path / "more")


def test_more_memory_than_allowed_ends_the_process(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(command, "run_confined", run_confined)
    monkeypatch.setattr(command, "MEMORY_FLOOR", 64 * 2**20)
    with raises("FW-MODEL-018"):
        import_model(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()


CONFINED = """
import os, socket, subprocess, sys
from fedward.client.models.importing.confinement import Limits, confine
def fill():
    file = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY)
    for _ in range(3):
        os.write(file, bytes(2048))
print(confine(Limits(8 * 2**30, 60, 4096)))
for attempt in (socket.socket, lambda: subprocess.run(["/bin/true"]), lambda: os.execv("/bin/true", ["true"]),
                fill):
    try:
        attempt()
        print("done")
    except OSError as error:
        print(type(error).__name__)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the filter of system calls is Linux's")
def test_a_confined_process_has_no_network_and_starts_no_program(tmp_path):
    command = [sys.executable, "-c", CONFINED, str(tmp_path / "large")]
    ended = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ), check=False)
    lines = ended.stdout.split()
    assert lines[0] == "True"
    assert lines[1:4] == ["PermissionError"] * 3
    assert lines[4:] == ["OSError"]
    assert (tmp_path / "large").stat().st_size <= 4096
