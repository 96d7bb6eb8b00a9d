"""result.json: written whole or not at all, read back equal, never contradicting itself."""

import json
import os
import re
from pathlib import Path

import pydantic
import pytest

from fedward.config import Section
from fedward.simulations.result import RunResult, read_result, write_atomically, write_result
from tests.codes import raises

DOCUMENT = Path(__file__).parents[3] / "docs" / "result-schema.md"


def test_a_result_survives_the_file(result, public_result, tmp_path):
    for each in (result, public_result):
        write_result(each, tmp_path)
        assert read_result(tmp_path) == each


def test_the_file_has_the_keys_other_programs_rely_on(result, tmp_path):
    raw = json.loads(write_result(result, tmp_path).read_text())
    assert raw["scores"]["federated"] == result.scores.federated
    assert raw["headline"]["name"] == "auroc"
    assert {"federated", "local_mean", "central", "best_possible"} <= raw["scores"].keys()
    assert {"private", "epsilon_max", "delta", "unit", "relation", "accountant"} <= raw["privacy"].keys()
    assert raw["secure_sum"]["exact"] is True
    assert {"bytes_per_round_per_hospital", "rounds", "adapter_sha256"} <= raw.keys()
    assert raw["seconds"]["total"] == result.seconds.total
    assert raw["created"] == "2026-11-23T14:05:00Z"


def test_a_document_of_the_first_version_is_still_read(result, tmp_path):
    """As fedward 0.1 wrote it: one outcome, one measure."""
    raw = json.loads(result.model_dump_json())
    old = {key: value for key, value in raw.items() if key not in ("headline", "scores", "schema_version")}
    old |= {"schema_version": 1, "fedward_version": "0.1.0"}
    old["auroc"] = {k: v for k, v in raw["scores"].items() if k not in ("best_possible", "others")}
    old["auroc"]["bayes"] = raw["scores"]["best_possible"]
    del old["scenario"]["outcome"]
    names = {"train_units": "train_patients", "evaluation_units": "evaluation_patients"}
    for row in old["hospitals"]:
        for key in list(row):
            if key.startswith(("alone", "federated")):
                row[f"auroc_{key}"] = row.pop(key)
            elif key in names:
                row[names[key]] = row.pop(key)
    for point in old["curve"]:
        measures = point.pop("measures")
        point |= {"auroc": measures["auroc"], "loss": measures["log_loss"]}
    (tmp_path / "result.json").write_text(json.dumps(old))
    found = read_result(tmp_path)
    assert found.scores == result.scores
    assert found.hospitals == result.hospitals
    assert found.curve == result.curve
    assert (found.headline.name, found.scenario.outcome) == ("auroc", "in-hospital death")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"non_private_reasons": ("seeded noise",)}, "no reason to be called non-private"),
        ({"hospitals": ()}, "differs from the rows"),
        ({"rounds": 3}, "order of rounds"),
        ({"surprise": 1}, "surprise"),
        ({"adapter_sha256": "abc"}, "adapter_sha256"),
    ],
)
def test_a_result_that_contradicts_itself_is_refused(result, change, reason):
    with pytest.raises(pydantic.ValidationError, match=reason):
        RunResult.model_validate(result.model_dump() | change)


def test_private_without_epsilon_and_public_without_reason_are_refused(result):
    raw = result.model_dump()
    with pytest.raises(pydantic.ValidationError, match="has an epsilon"):
        RunResult.model_validate(raw | {"privacy": raw["privacy"] | {"epsilon_max": None}})
    with pytest.raises(pydantic.ValidationError, match="says why"):
        RunResult.model_validate(raw | {"privacy": raw["privacy"] | {"private": False}})


def test_numbers_that_are_not_numbers_are_refused(result):
    raw = result.model_dump()
    with pytest.raises(pydantic.ValidationError):
        RunResult.model_validate(raw | {"scores": raw["scores"] | {"federated": float("nan")}})


@pytest.mark.parametrize("text", [None, "{", '{"schema_version": 2}', '{"schema_version": 1}', "[]"])
def test_an_unreadable_result_is_one_sentence(tmp_path, text):
    if text is not None:
        (tmp_path / "result.json").write_text(text)
    with raises("FW-CONFIG-020") as caught:
        read_result(tmp_path)
    assert caught.value.message.count("\n") == 0


def test_a_failed_write_leaves_the_old_file_and_no_partial_one(tmp_path, monkeypatch):
    path = write_atomically(tmp_path / "x.txt", "old")

    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with raises("FW-RESOURCE-020", match="No space left"):
        write_atomically(path, "new")
    assert [each.name for each in tmp_path.iterdir()] == ["x.txt"]
    assert path.read_text() == "old"


def _keys(section: type[Section], prefix: str = "") -> set[str]:
    found = set()
    for name, field in section.model_fields.items():
        found.add(prefix + name)
        for inner in (field.annotation, *getattr(field.annotation, "__args__", ())):
            if isinstance(inner, type) and issubclass(inner, Section):
                many = getattr(field.annotation, "__origin__", None) is tuple
                found |= _keys(inner, f"{prefix}{name}{'[]' if many else ''}.")
    return found


def test_every_key_is_documented_and_every_documented_key_exists():
    documented = set(re.findall(r"^\| `([a-z0-9_.\[\]]+)` \|", DOCUMENT.read_text(), flags=re.MULTILINE))
    assert documented == _keys(RunResult)
