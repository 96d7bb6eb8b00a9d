"""Weights in parts, in half precision, and what a hostile index must not do."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from fedward.client.models.adapter_model import LoraSettings, build, get_vector, load_base
from fedward.client.models.registry import INDEX, WEIGHTS, read_model_folder
from tests.codes import raises

PARTS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


@pytest.fixture
def sharded(tiny, tmp_path):
    """A copy of the tiny model whose weights lie in two parts."""
    folder = tmp_path / "sharded"
    shutil.copytree(tiny.folder, folder)
    tensors = load_file(folder / WEIGHTS)
    names = sorted(tensors)
    halves = (names[: len(names) // 2], names[len(names) // 2 :])
    for part, half in zip(PARTS, halves, strict=True):
        save_file({name: tensors[name] for name in half}, folder / part)
    write_index(folder, {name: part for part, half in zip(PARTS, halves, strict=True) for name in half})
    (folder / WEIGHTS).unlink()
    return folder


def write_index(folder, weight_map, **more):
    (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map} | more))


def weight_map(folder):
    return json.loads((folder / INDEX).read_text())["weight_map"]


def load(folder):
    return load_base(read_model_folder(folder, "copy"))


def test_weights_in_parts_are_the_same_model(tiny, sharded):
    files = read_model_folder(sharded, "sharded")
    whole, parts = load_base(tiny).state_dict(), load_base(files).state_dict()
    assert whole.keys() == parts.keys()
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    starts = [get_vector(build(each, LoraSettings(), seed=3)) for each in (tiny, files)]
    assert np.array_equal(*starts)


@pytest.mark.parametrize("file", [*PARTS, INDEX])
def test_the_hash_covers_every_part_and_the_index(sharded, file):
    before = read_model_folder(sharded, "copy").sha256
    path = sharded / file
    path.write_bytes(path.read_bytes() + b" ")
    assert read_model_folder(sharded, "copy").sha256 != before


@pytest.mark.parametrize(
    "part", ["../x.safetensors", "/etc/passwd", "a/b.safetensors", "pytorch_model.bin", "..", "", 7, None]
)
def test_an_index_names_nothing_but_safetensors_of_its_folder(sharded, part):
    save_file(load_file(sharded / PARTS[0]), sharded.parent / "x.safetensors")
    named = weight_map(sharded)
    write_index(sharded, {name: part if file == PARTS[0] else file for name, file in named.items()})
    with raises("FW-MODEL-001"):
        read_model_folder(sharded, "copy")


def test_a_link_out_of_the_folder_is_no_part(sharded):
    outside = sharded.parent / "outside.safetensors"
    shutil.move(sharded / PARTS[0], outside)
    (sharded / PARTS[0]).symlink_to(outside)
    with raises("FW-MODEL-001", match="lacks a part"):
        read_model_folder(sharded, "copy")


def test_a_missing_part_is_refused(sharded):
    (sharded / PARTS[1]).unlink()
    with raises("FW-MODEL-001", match="lacks a part"):
        read_model_folder(sharded, "copy")


def test_a_part_that_the_index_does_not_name_is_refused(sharded):
    save_file({"more": torch.zeros(2)}, sharded / "model-00003-of-00002.safetensors")
    with raises("FW-MODEL-001", match="does not name"):
        read_model_folder(sharded, "copy")


@pytest.mark.parametrize("change", ["in two parts", "not in the index", "in another part", "only in the index"])
def test_each_tensor_lies_once_and_where_the_index_says(sharded, change):
    named, second = weight_map(sharded), load_file(sharded / PARTS[1])
    name, value = next(iter(load_file(sharded / PARTS[0]).items()))
    if change == "in two parts":
        save_file(second | {name: value}, sharded / PARTS[1])
    elif change == "not in the index":
        save_file(second | {"more": value}, sharded / PARTS[1])
    elif change == "in another part":
        write_index(sharded, named | {name: PARTS[1]})
    else:
        write_index(sharded, named | {"more": PARTS[1]})
    with raises("FW-MODEL-001"):
        load(sharded)


@pytest.mark.parametrize(
    "document", ["[]", "{", "{}", '{"weight_map": {}}', '{"weight_map": []}', '{"weight_map": {}, "auto_map": 1}']
)
def test_malformed_indices_are_refused(sharded, document):
    (sharded / INDEX).write_text(document)
    with raises("FW-MODEL-001"):
        read_model_folder(sharded, "copy")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_becomes_float32(tiny, tmp_path, dtype):
    shutil.copytree(tiny.folder, tmp_path / "half")
    tensors = {name: tensor.to(dtype) for name, tensor in load_file(tiny.folder / WEIGHTS).items()}
    save_file(tensors, tmp_path / "half" / WEIGHTS)
    model = load(tmp_path / "half")
    assert all(tensor.dtype == torch.float32 for tensor in model.state_dict().values())
    assert all(torch.equal(tensor, tensors[name].float()) for name, tensor in model.state_dict().items())


def test_integer_weights_are_refused(tiny, tmp_path):
    shutil.copytree(tiny.folder, tmp_path / "integers")
    tensors = {name: tensor.to(torch.int8) for name, tensor in load_file(tiny.folder / WEIGHTS).items()}
    save_file(tensors, tmp_path / "integers" / WEIGHTS)
    with raises("FW-MODEL-001", match="floating-point"):
        load(tmp_path / "integers")


def test_one_tensor_under_two_names_is_refused(tiny, tmp_path):
    shutil.copytree(tiny.folder, tmp_path / "twice")
    tensors = load_file(tiny.folder / WEIGHTS)
    name = "embeddings.LayerNorm.weight"
    save_file(tensors | {f"bert.{name}": tensors[name] + 1}, tmp_path / "twice" / WEIGHTS)
    with raises("FW-MODEL-001", match="two names"):
        load(tmp_path / "twice")


def test_nothing_but_safetensors_is_opened(tiny, tmp_path, monkeypatch):
    shutil.copytree(tiny.folder, tmp_path / "copy")
    (tmp_path / "copy" / WEIGHTS).rename(tmp_path / "copy" / "pytorch_model.bin")
    with raises("FW-MODEL-001", match="has no model"):
        read_model_folder(tmp_path / "copy", "copy")
