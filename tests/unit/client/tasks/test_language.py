import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers

from fedward.client.data.example import Example
from fedward.client.models.adapter_model import LoraSettings, build, layout_of, set_vector
from fedward.client.models.inputs import PrefixInputs, TokenInputs
from fedward.client.records import Records
from fedward.client.tasks import local_task
from fedward.privacy.dpsgd.clipping import DPParameters
from fedward.privacy.dpsgd.engine import PrivateEngine
from fedward.privacy.noise import SecureStream
from fedward.tasks.task import Head
from tests.codes import raises
from tests.language_models import LETTERS, surprise, write_llama

pytestmark = pytest.mark.torch
CAUSAL = LoraSettings(rank=2, targets=("query", "value", "feed_forward_up"), head=Head("causal"))


def conversation(unit, *said):
    turns = tuple(("user" if n % 2 == 0 else "assistant", text) for n, text in enumerate(said))
    return Example(unit, "", "\n".join(said), "", turns=turns)


def running(unit, text):
    return Example(unit, "", text, "")


def encoded(task, files, examples, lora=CAUSAL, max_tokens=64, moved=False):
    model = build(files, lora, seed=0)
    if moved:
        size = layout_of(model).size
        set_vector(model, np.random.default_rng(1).normal(0, 0.2, size).astype(np.float32))
    return model, Records.encode(examples, local_task(task), files, model, max_tokens=max_tokens)


ASKED = [conversation("a", "what is it", "flu"), conversation("b", "and now", "rest well"), conversation("c", "x", "y")]


def test_the_likelihood_is_that_of_the_answers_by_hand(tmp_path):
    files = write_llama(tmp_path, bits={**LETTERS, "<|im_end|>": 4.0})
    model, records = encoded("sft", files, ASKED)
    found = local_task("sft").outcomes(model, records)
    lengths = np.array([len(ASKED[place].turns[1][1]) for place in records.order])
    by_hand = np.array([surprise(n, [4]) for n in lengths])
    np.testing.assert_allclose(found.scores, by_hand, rtol=1e-5)
    np.testing.assert_array_equal(found.targets[:, 0], lengths + 1)
    np.testing.assert_allclose(found.losses, by_hand / (lengths + 1), rtol=1e-5)


def test_the_end_is_scored_though_the_padding_equals_it(tmp_path):
    files = write_llama(tmp_path, bits={**LETTERS, "<|im_end|>": 4.0}, pad_token_id=260)
    model, records = encoded("sft", files, ASKED)
    assert local_task("sft").outcomes(model, records).targets[:, 0].sum() == sum(len(e.turns[1][1]) + 1 for e in ASKED)


def test_every_token_of_a_running_text_is_scored(tmp_path):
    files = write_llama(tmp_path, bits={**LETTERS, "</s>": 4.0}, begin=True)
    model, records = encoded("clm", files, [running("a", "abc de"), running("b", "x")])
    found = local_task("clm").outcomes(model, records)
    assert sorted(found.scores) == pytest.approx([surprise(1, [4]), surprise(6, [4])], rel=1e-5)


def test_without_a_begin_token_the_first_token_has_nothing_before_it(tmp_path):
    files = write_llama(tmp_path, bits={**LETTERS, "</s>": 4.0})
    model, records = encoded("clm", files, [running("a", "abc")])
    assert local_task("clm").outcomes(model, records).scores == pytest.approx([surprise(2, [4])], rel=1e-5)


@pytest.mark.parametrize("top_layers", [None, 1, 2])
def test_losses_are_those_of_the_library(tmp_path, top_layers):
    files = write_llama(tmp_path)
    model, records = encoded("sft", files, ASKED, replace(CAUSAL, top_layers=top_layers))
    assert isinstance(records.inputs, PrefixInputs if top_layers else TokenInputs)
    theirs = transformers.LlamaForCausalLM.from_pretrained(tmp_path)
    plain, _ = encoded("sft", files, ASKED)[1], None
    tokens = plain.inputs.tokens
    for row in range(len(records)):
        length = int(tokens.lengths[row])
        labels = torch.from_numpy(records.targets[row : row + 1, :length])
        labels = torch.cat([torch.tensor([[-100]]), torch.where(labels < 0, -100, labels)[:, :-1]], dim=1)
        with torch.no_grad():
            expected = theirs(torch.from_numpy(tokens.input_ids[row : row + 1, :length]), labels=labels).loss
            ours = local_task("sft").losses(model.eval(), records, np.array([row]))
        assert float(ours) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("top_layers", [None, 1])
def test_a_records_loss_is_its_own_in_any_company(tmp_path, top_layers):
    examples = [
        *ASKED,
        conversation("d", "a much longer question than the others", "with an answer that is longer too"),
    ]
    model, records = encoded("sft", write_llama(tmp_path), examples, replace(CAUSAL, top_layers=top_layers), moved=True)
    task, rows = local_task("sft"), np.arange(len(examples))
    with torch.no_grad():
        together = task.losses(model, records, rows)
        alone = torch.cat([task.losses(model, records, rows[i : i + 1]) for i in rows])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("top_layers", [None, 1])
def test_gradients_of_records_are_exact(tmp_path, top_layers):
    targets = ("query", "key", "value", "attention_output", "feed_forward_gate", "feed_forward_up", "feed_forward_down")
    lora = replace(CAUSAL, targets=targets, top_layers=top_layers)
    model, records = encoded("sft", write_llama(tmp_path), ASKED, lora, moved=True)
    trained = [p for p in model.parameters() if p.requires_grad]
    parameters = DPParameters(noise_multiplier=1.0, clip=1.0, sampling_rate=0.5, expected_batch=2.0)
    optimizer = torch.optim.SGD(trained, lr=0.1)
    task = local_task("sft")
    with PrivateEngine(model, optimizer, parameters, SecureStream.from_os(), backend="fast") as engine:
        _, rows = engine.gradients(lambda r: task.losses(model, records, r), np.arange(3))
        for row in range(3):
            alone = engine.plain_gradient(lambda r: task.losses(model, records, r), np.array([row]))
            error = np.linalg.norm(rows[row] - alone) / np.linalg.norm(alone)
            assert error <= 5e-6


def test_a_tied_output_layer_stays_tied_and_is_checked(tmp_path):
    files = write_llama(tmp_path, tie_word_embeddings=True)
    model, records = encoded("sft", files, ASKED)
    assert model.bare_base().lm_head.weight is model.body().embed_tokens.weight
    assert np.isfinite(local_task("sft").outcomes(model, records).losses).all()


def test_an_answer_that_does_not_fit_is_counted_and_never_a_loss_of_zero(tmp_path):
    long = conversation("d", "q" * 200, "never seen")
    _, records = encoded("sft", write_llama(tmp_path, bits=LETTERS), [*ASKED, long])
    assert (len(records), records.left_out, set(records.names)) == (3, 1, {"a", "b", "c"})
    with raises("FW-DATA-034"):
        encoded("sft", write_llama(tmp_path), [long])


def test_an_answer_is_cut_at_the_text_length_and_counted(tmp_path):
    _, records = encoded("sft", write_llama(tmp_path), [*ASKED, conversation("d", "q", "long " * 40)])
    assert (records.left_out, records.inputs.cut) == (0, 1)
    row = records.names.index("d")
    assert records.inputs.lengths[row] == 64
    assert (records.targets[row] >= 0).sum() < 200


def test_chinese_is_written_byte_by_byte(tmp_path):
    files = write_llama(tmp_path)
    _, records = encoded("sft", files, [conversation("a", "头痛", "多喝水")])
    assert (records.targets[:, :-1] >= 0).sum() == len("多喝水".encode()) + 1


def test_perplexity_counts_tokens_not_records(tmp_path):
    files = write_llama(tmp_path, bits={**LETTERS, "<|im_end|>": 4.0})
    model, records = encoded("sft", files, ASKED)
    task = local_task("sft")
    found = {measure.name: measure.local(task.outcomes(model, records)) for measure in task.declaration.measures}
    letters = sum(len(example.turns[1][1]) for example in ASKED)
    mean = surprise(letters, [4, 4, 4]) / (letters + 3)
    assert found["token_nll"] == pytest.approx(mean, rel=1e-5)
    assert found["perplexity"] == pytest.approx(math.exp(mean), rel=1e-4)
    assert found["nll"] != pytest.approx(mean, rel=1e-3)


@pytest.mark.parametrize("top_layers", [None, 2])
def test_layers_that_are_computed_again_give_the_same_gradients(tmp_path, top_layers):
    lora = replace(CAUSAL, top_layers=top_layers)
    model, records = encoded("sft", write_llama(tmp_path), ASKED, lora, moved=True)
    trained = [p for p in model.parameters() if p.requires_grad]
    parameters = DPParameters(noise_multiplier=1.0, clip=1.0, sampling_rate=0.5, expected_batch=2.0)
    task, found = local_task("sft"), []
    with PrivateEngine(
        model, torch.optim.SGD(trained, lr=0.1), parameters, SecureStream.from_os(), backend="fast"
    ) as engine:
        for model.recomputes in (False, True):
            found.append(engine.gradients(lambda r: task.losses(model, records, r), np.arange(3))[1])
    np.testing.assert_array_equal(*found)
    assert np.abs(found[0]).max() > 0
