import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from fedward.client.models import registry
from fedward.client.models.adapter_model import load_base
from fedward.client.models.registry import KnownModel, list_models, read_model_folder, resolve, resolve_named
from fedward.plan import MODEL_NAME
from tests.codes import raises


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("FEDWARD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_local_folder_comes_first(tiny, cache):
    assert resolve(tiny.folder) == resolve(str(tiny.folder)) == tiny


@pytest.mark.parametrize("form", ["absolute", "relative", "beside", "dots", "hidden"])
def test_what_somebody_else_names_is_never_a_path(tiny, cache, tmp_path, monkeypatch, form):
    """Broken: a plan that names a folder of the hospital's machine has it opened and hashed."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(tiny.folder, tmp_path / "beside")
    shutil.copytree(tiny.folder, cache / ".hidden")
    named = {
        "absolute": str(tmp_path / "beside"),
        "relative": "./beside",
        "beside": "beside",
        "dots": "../beside",
        "hidden": ".hidden",
    }
    with raises("FW-CONFIG-004"):
        resolve_named(named[form])


def test_a_model_of_ones_own_is_named_by_its_folder_in_the_cache(tiny, cache):
    shutil.copytree(tiny.folder, cache / "own-model")
    assert resolve_named("own-model") == resolve("own-model")
    assert resolve_named("own-model").sha256 == tiny.sha256


def test_a_folder_gives_its_model_a_name(tiny, tmp_path):
    for folder in ("my model (1)", "...", "-x" * 60):
        shutil.copytree(tiny.folder, tmp_path / folder)
        assert re.fullmatch(MODEL_NAME, resolve(tmp_path / folder).name)


def test_the_cache_comes_before_the_package(tiny, cache):
    shutil.copytree(tiny.folder, cache / "tiny-clinical")
    assert resolve("tiny-clinical").folder == cache / "tiny-clinical"
    assert resolve("tiny-clinical").sha256 == tiny.sha256


@pytest.mark.parametrize(("name", "fix"), [("minlm", "minilm"), ("minilm", "fetch minilm"), ("zzz", "models list")])
def test_unknown_models_come_with_a_way_out(cache, name, fix):
    with raises("FW-CONFIG-004") as caught:
        resolve(name)
    assert fix in caught.value.fix


def test_a_missing_path_is_an_unknown_model(tmp_path, cache):
    for name in (tmp_path / "nothing", str(tmp_path / "nothing")):
        with raises("FW-CONFIG-004"):
            resolve(name)


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "model.safetensors"])
def test_every_hashed_file_counts(tiny, tmp_path, file):
    copy = tmp_path / "copy"
    shutil.copytree(tiny.folder, copy)
    assert read_model_folder(copy, "copy").sha256 == tiny.sha256
    content = (copy / file).read_bytes()
    (copy / file).write_bytes(content + b"\n")
    assert read_model_folder(copy, "copy").sha256 != tiny.sha256
    (copy / file).unlink()
    with raises("FW-MODEL-001"):
        read_model_folder(copy, "copy")


@pytest.mark.parametrize("file", ["tokenizer_config.json", "chat_template.jinja", "chat_template.json"])
def test_files_that_change_what_a_model_reads_count_where_they_are(tiny, tmp_path, file):
    copy = tmp_path / "copy"
    shutil.copytree(tiny.folder, copy)
    (copy / file).write_text("{}")
    assert read_model_folder(copy, "copy").sha256 != tiny.sha256


def test_a_pinned_model_with_other_files_is_refused(tiny, cache, monkeypatch):
    shutil.copytree(tiny.folder, cache / "pinned")
    for sha256 in (tiny.sha256, "0" * 64):
        monkeypatch.setattr(registry, "KNOWN_MODELS", (KnownModel("pinned", "bert", "", sha256=sha256),))
        if sha256 == tiny.sha256:
            assert resolve("pinned").sha256 == sha256
        else:
            with raises("FW-MODEL-003"):
                resolve("pinned")


def test_the_list_says_where_models_are(tiny, cache):
    shutil.copytree(tiny.folder, cache / "minilm")
    listed = {model.name: model for model in list_models()}
    assert listed["tiny-clinical"].source == "packaged"
    assert (listed["minilm"].source, listed["minilm"].folder) == ("cached", cache / "minilm")


def test_a_cached_folder_does_not_pass_for_a_pinned_model(tiny, cache):
    shutil.copytree(tiny.folder, cache / "minilm")
    with raises("FW-MODEL-003"):
        resolve("minilm")


def test_the_list_says_what_is_missing(cache):
    listed = {model.name: model for model in list_models()}
    assert (listed["minilm"].source, listed["minilm"].folder) == ("not fetched", None)


@pytest.mark.parametrize("content", [b"[1]", b"{", b"[" * 100_000, b" " * 300_000])
def test_malformed_configurations_are_refused(tiny, tmp_path, content):
    shutil.copytree(tiny.folder, tmp_path / "copy")
    (tmp_path / "copy" / "config.json").write_bytes(content)
    with raises("FW-MODEL-001"):
        resolve(tmp_path / "copy")


def test_weights_must_be_those_of_the_configuration(tiny, tmp_path):
    shutil.copytree(tiny.folder, tmp_path / "copy")
    document = json.loads((tmp_path / "copy" / "config.json").read_text())
    (tmp_path / "copy" / "config.json").write_text(json.dumps(document | {"num_hidden_layers": 2}))
    with raises("FW-MODEL-001", match="weights"):
        load_base(resolve(tmp_path / "copy"))
    tensors = load_file(tiny.folder / "model.safetensors")
    for change, name in (
        ({"encoder.layer.0.strange.weight": np.zeros(1, np.float32)}, "strange"),
        ({"embeddings.LayerNorm.weight": np.zeros(3, np.float32)}, "LayerNorm"),
    ):
        (tmp_path / "copy" / "config.json").write_text(json.dumps(document))
        save_file(tensors | change, tmp_path / "copy" / "model.safetensors")
        with raises("FW-MODEL-001", match=name):
            load_base(resolve(tmp_path / "copy"))
    (tmp_path / "copy" / "model.safetensors").write_bytes(b"not safetensors")
    with raises("FW-MODEL-001"):
        load_base(resolve(tmp_path / "copy"))
