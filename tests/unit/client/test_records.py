"""Records of several hospitals pooled without encoding them again."""

import numpy as np
import pytest
import torch

from fedward.client.data import Example
from fedward.client.models.adapter_model import LoraSettings, build
from fedward.client.models.registry import resolve
from fedward.client.records import Records
from fedward.client.tasks import local_task
from tests.codes import raises

TASK = local_task("mortality")
WORDS = ("lactate high", "male", "age 70s", "creatinine normal", "micu")


def examples(prefix, count):
    return [
        Example(unit=f"{prefix}{i // 2}", group=prefix, text=" . ".join(WORDS[: 1 + i % 5]), label=i % 2)
        for i in range(count)
    ]


@pytest.mark.parametrize("top_layers", [None, 1])
def test_a_pool_scores_every_record_as_its_hospital_does(top_layers):
    files = resolve("tiny-clinical")
    model = build(files, LoraSettings(top_layers=top_layers), seed=0)
    parts = [
        Records.encode(examples(name, count), TASK, files, model, max_tokens=16) for name, count in (("a", 7), ("b", 4))
    ]
    pool = Records.pool(parts)
    laid = [record for part in parts for record in zip(part.names, part.targets.tolist(), strict=True)]
    assert list(zip(pool.names, pool.targets.tolist(), strict=True)) == [laid[i] for i in pool.order]
    assert pool.inputs.lengths.tolist() == sorted(pool.inputs.lengths.tolist())
    model.head.weight.data.uniform_(-1, 1, generator=torch.Generator().manual_seed(0))
    apart = np.concatenate([part.inputs.outputs(model, np.arange(len(part))).detach().numpy() for part in parts])
    together = pool.inputs.outputs(model, np.arange(len(pool))).detach().numpy()
    np.testing.assert_allclose(together, apart[pool.order], rtol=0, atol=1e-5)


def test_a_patient_keeps_its_records_and_nobody_elses():
    files = resolve("tiny-clinical")
    model = build(files, LoraSettings(), seed=0)
    parts = [Records.encode(examples(name, 6), TASK, files, model, max_tokens=16) for name in ("a", "b")]
    pool = Records.pool(parts)
    by_number = {}
    for number, name in zip(pool.units.tolist(), pool.names, strict=True):
        by_number.setdefault(number, set()).add(name)
    assert len(by_number) == 6
    assert all(len(names) == 1 for names in by_number.values())
    first_seen = list(dict.fromkeys(pool.units.tolist()))
    assert first_seen == sorted(first_seen)


def test_texts_that_the_tokenizer_loses_are_refused():
    files = resolve("tiny-clinical")
    model = build(files, LoraSettings(), seed=0)
    records = [*examples("a", 3), Example("z", "", "患者 男 糖尿病史10年", 1)]
    with raises("FW-DATA-021", match="in zh") as refusal:
        Records.encode(records, TASK, files, model, max_tokens=16)
    assert "患" not in refusal.value.message
