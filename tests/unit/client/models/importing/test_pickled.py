"""Files of torch.save: the tensors as torch wrote them, and nothing of what else such a program may ask for."""

import collections
import struct

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedward.client.models.importing.pickled import _INSTRUCTIONS, read_pickled
from fedward.errors import FedwardError
from tests.codes import raises
from tests.foreign_models import archive, name, number, program, tensor, word

ZIPPED = pytest.mark.parametrize("zipped", [True, False])
TYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.bool)


def state():
    torch.manual_seed(3)
    whole = torch.randn(6, 4)
    return collections.OrderedDict(
        plain=whole,
        shared=whole,
        part=whole[1:4, 2:],
        turned=whole.T,
        scalar=torch.tensor(2.5),
        empty=torch.zeros(0, 3),
        parameter=torch.nn.Parameter(torch.randn(3)),
        **{str(kind): torch.randn(3, 2).to(kind) for kind in TYPES},
    )


def numbers(tensor):
    tensor = tensor.detach()
    return tensor.view(torch.int16).numpy().view(np.uint16) if tensor.dtype == torch.bfloat16 else tensor.numpy()


@ZIPPED
@pytest.mark.parametrize("kind", [dict, collections.OrderedDict])
def test_tensors_are_those_that_torch_wrote(tmp_path, zipped, kind):
    torch.save(kind(state()), tmp_path / "m.bin", _use_new_zipfile_serialization=zipped)
    read = read_pickled(tmp_path / "m.bin")
    assert list(read) == list(state())
    for key, held in state().items():
        assert read[key].shape == tuple(held.shape)
        assert np.array_equal(read[key].read(), numbers(held)), key


@ZIPPED
def test_the_state_of_a_module_is_read(tmp_path, zipped):
    module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    torch.save(module.state_dict(), tmp_path / "m.bin", _use_new_zipfile_serialization=zipped)
    assert set(read_pickled(tmp_path / "m.bin")) == set(module.state_dict())


@ZIPPED
@pytest.mark.parametrize("held", [torch.nn.Linear(2, 2), {"a": torch.device("cpu")}, {"a": 1}, [torch.zeros(2)], {}])
def test_other_objects_are_refused(tmp_path, zipped, held):
    torch.save(held, tmp_path / "m.bin", _use_new_zipfile_serialization=zipped)
    with raises("FW-MODEL-013"):
        read_pickled(tmp_path / "m.bin")


@pytest.mark.parametrize(
    ("module", "attribute"),
    [
        ("os", "system"), ("posix", "system"), ("builtins", "eval"), ("builtins", "getattr"), ("torch", "load"),
        ("torch", "FloatTensor"), ("torch._utils", "_rebuild_qtensor"), ("torch.hub", "load"), ("numpy", "load"),
        ("collections", "defaultdict"), ("torch._utils", "_rebuild_tensor_v2.__globals__"), ("", "eval"),
        ("transformers.training_args", "TrainingArguments"), ("torch.storage", "_load_from_bytes"),
    ],
)  # fmt: skip
def test_every_other_name_is_refused_by_it(tmp_path, module, attribute):
    call = name(module, attribute) + b"(" + word("touch hacked") + b"tR"
    stacked = word(module) + word(attribute) + b"\x93" + b"(" + word("x") + b"tR"
    for code in (program({"a": call}), program({}, before=call + b"0"), program({"a": stacked}), call + b"."):
        archive(tmp_path / "m.bin", code)
        with raises("FW-MODEL-013", match=attribute.replace(".", r"\.")):
            read_pickled(tmp_path / "m.bin")


@pytest.mark.parametrize("opcode", [b"i", b"o", b"\x81", b"\x92", b"\x82", b"\x83", b"\x84", b"P", b"\x97", b"0", b"2"])
def test_instructions_that_no_tensor_needs_are_refused(tmp_path, opcode):
    assert opcode not in _INSTRUCTIONS
    archive(tmp_path / "m.bin", program({"a": tensor()}, after=opcode))
    with raises("FW-MODEL-013", match="instruction"):
        read_pickled(tmp_path / "m.bin")


@pytest.mark.parametrize(
    "made",
    [
        {"shape": (3,)}, {"offset": 1}, {"shape": (2,), "strides": (2,)}, {"shape": (-1,)}, {"strides": (-1,)},
        {"offset": -1}, {"shape": (2**20, 2**20), "strides": (0, 0)}, {"shape": (2,), "strides": (1, 1)},
        {"count": -1}, {"count": 3}, {"key": "1"}, {"key": "../0"}, {"storage": "HalfStorage"},
        {"shape": (1,) * 9, "strides": (1,) * 9}, {"shape": (2**41,)}, {"storage": "QInt8Storage"},
    ],
)  # fmt: skip
def test_tensors_stay_inside_their_numbers(tmp_path, made):
    archive(tmp_path / "m.bin", program({"a": tensor(**made)}))
    with raises("FW-MODEL-013"):
        read_pickled(tmp_path / "m.bin")


def test_a_tensor_by_hand(tmp_path):
    archive(tmp_path / "m.bin", program({"a": tensor((2, 1), strides=(1, 1))}))
    assert read_pickled(tmp_path / "m.bin")["a"].read().tolist() == [[1.0], [2.0]]


def test_many_views_of_few_numbers_are_no_large_model(tmp_path):
    many = {f"t{i}": tensor((256,), count=256) for i in range(2000)}
    archive(tmp_path / "m.bin", program(many), {"0": bytes(1024)})
    with raises("FW-MODEL-013", match="larger than itself"):
        read_pickled(tmp_path / "m.bin")


def test_packed_archives_are_refused(tmp_path):
    archive(tmp_path / "m.bin", program({"a": tensor((2**22,), count=2**22)}), {"0": bytes(2**24)}, packed=True)
    with raises("FW-MODEL-013", match="ZIP bomb"):
        read_pickled(tmp_path / "m.bin")


def test_entries_that_overlap_are_refused(tmp_path):
    archive(tmp_path / "m.bin", program({"a": tensor()}), {str(i): bytes(4096) for i in range(8)})
    raw = (tmp_path / "m.bin").read_bytes()
    places = [i for i in range(len(raw)) if raw.startswith(b"PK\x01\x02", i)]
    first = raw[places[1] + 42 : places[1] + 46]
    for place in places[2:]:  # every entry of the directory now points to the same bytes
        raw = raw[: place + 42] + first + raw[place + 46 :]
    (tmp_path / "m.bin").write_bytes(raw + b"")
    with raises("FW-MODEL-013"):
        read_pickled(tmp_path / "m.bin")


@pytest.mark.parametrize("entry", ["../../outside", "/etc/passwd", "a/../../b"])
def test_entries_with_impossible_names_are_refused(tmp_path, entry):
    import zipfile

    archive(tmp_path / "m.bin", program({"a": tensor()}))
    with zipfile.ZipFile(tmp_path / "m.bin", "a") as file:
        file.writestr(entry, b"x")
    with raises("FW-MODEL-013"):
        read_pickled(tmp_path / "m.bin")


def test_another_byte_order_is_refused(tmp_path):
    archive(tmp_path / "m.bin", program({"a": tensor()}), byteorder=b"big")
    with raises("FW-MODEL-013", match="byte order"):
        read_pickled(tmp_path / "m.bin")


@pytest.mark.parametrize(
    "code",
    [
        b"", b"\x80\x02", b".", b"t.", b"R.", b"u.", b"Q.", b"h\x07.", b"}b.", b"X\xff\xff\xff\xff.",
        b"\x8d" + b"\xff" * 8, b"}(K\x01u.", b"](K\x01u.", b"}K\x01a.", b"c" + b"x" * 10_000, b"}(]K\x01u.",
        b"}(" + (word("a") + number(1)) * 2 + b"u.", name("collections", "OrderedDict") + b")R" + word("x") + b"b.",
        b"(" * 10_000 + b"t" * 10_000 + b".",
    ],
)  # fmt: skip
def test_unsound_programs_are_refused(tmp_path, code):
    archive(tmp_path / "m.bin", code)
    with raises("FW-MODEL-013"):
        read_pickled(tmp_path / "m.bin")


def test_attributes_of_a_dictionary_other_than_versions_are_refused(tmp_path):
    held = name("collections", "OrderedDict") + b")R}(" + word("__class__") + word("x") + b"ub."
    archive(tmp_path / "m.bin", held)
    with raises("FW-MODEL-013", match="attributes"):
        read_pickled(tmp_path / "m.bin")


@ZIPPED
@pytest.mark.parametrize("kept", [1, 100, 0.5, 0.9, -1])
def test_truncated_files_are_refused(tmp_path, zipped, kept):
    torch.save(state(), tmp_path / "m.bin", _use_new_zipfile_serialization=zipped)
    raw = (tmp_path / "m.bin").read_bytes()
    (tmp_path / "m.bin").write_bytes(raw[: int(len(raw) * kept) if isinstance(kept, float) else kept])
    with raises("FW-MODEL-013"):
        for weight in read_pickled(tmp_path / "m.bin").values():
            weight.read()


def test_an_archive_that_points_before_its_beginning_is_refused(tmp_path):
    """Broken: an OSError of the system, for a place below zero; found by mutated bytes."""
    archive(tmp_path / "m.bin", b"\x80\x02}.")
    raw = bytearray((tmp_path / "m.bin").read_bytes())
    place = raw.rindex(b"PK\x05\x06") + 16  # where the directory begins, as the end record says
    (begins,) = struct.unpack_from("<I", raw, place)
    struct.pack_into("<I", raw, place, begins + 1000)
    (tmp_path / "m.bin").write_bytes(raw)
    with raises("FW-MODEL-013"):
        read_pickled(tmp_path / "m.bin")


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.booleans())
def test_arbitrary_programs_never_crash(tmp_path_factory, code, whole):
    path = tmp_path_factory.mktemp("any") / "m.bin"
    if whole:
        path.write_bytes(code)
    else:
        archive(path, b"\x80\x02" + code)
    with pytest.raises(FedwardError):
        read_pickled(path)


def test_the_form_before_torch_1_6_needs_its_magic_number(tmp_path):
    (tmp_path / "m.bin").write_bytes(b"\x80\x02K\x01." + struct.pack("<q", 2))
    with raises("FW-MODEL-013", match="not written by"):
        read_pickled(tmp_path / "m.bin")
