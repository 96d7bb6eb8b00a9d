"""Options of a question: scored as by hand, with gradients of each record alone, and never with a guessed label."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from fedward.client.corpora.corpus import Turn
from fedward.client.data.example import Example
from fedward.client.examples import load_examples
from fedward.client.models.adapter_model import LoraSettings, build, layout_of, set_vector
from fedward.client.models.inputs import OptionInputs
from fedward.client.models.templates import Writer
from fedward.client.records import Records, evaluation_statistics
from fedward.client.tasks import local_task
from fedward.measures.bounded_mean import Accuracy, NormalisedAccuracy
from fedward.privacy.dpsgd.clipping import DPParameters
from fedward.privacy.dpsgd.engine import PrivateEngine
from fedward.privacy.noise import SecureStream
from fedward.tasks.task import Head
from tests.codes import raises
from tests.language_models import LETTERS, surprise, write_llama

pytestmark = pytest.mark.torch
CAUSAL = LoraSettings(rank=2, targets=("query", "value", "feed_forward_up"), head=Head("causal"))


def question(unit, text, options, right):
    turns = (("user", text),)
    return Example(unit, "", "\n".join((text, *options)), right, turns=turns, options=tuple(options))


ASKED = [
    question("a", "what is it", ("flu", "777"), 0),
    question("b", "and now", ("rest well and drink", "77", "walk"), 1),
    question("c", "x", ("yes", "no", "maybe", "who knows"), 2),
]


def encoded(files, *, task="choice", examples=ASKED, lora=CAUSAL, moved=False, max_tokens=64):
    model = build(files, lora, seed=0)
    if moved:
        values = np.random.default_rng(1).normal(0, 0.2, layout_of(model).size)
        set_vector(model, values.astype(np.float32))
    return model, Records.encode(examples, local_task(task), files, model, max_tokens=max_tokens)


def by_file(records, rows):
    return [rows[place] for place in np.argsort(records.order)]


@pytest.mark.parametrize("template", [None, "chatml"])
def test_options_are_scored_by_sum_and_by_character_without_their_end(tmp_path, template):
    more = {} if template else {"template": None}
    files = write_llama(tmp_path, bits=LETTERS, **more)
    model, records = encoded(files)
    found = by_file(records, local_task("choice").details(local_task("choice").outcomes(model, records)))
    blank = 0 if template else 1  # that stands between "Answer:" and the option
    for each, row in zip(ASKED, found, strict=True):
        expected = [
            -surprise(blank + sum(c.isalpha() or c == " " for c in text), [12] * sum(c == "7" for c in text))
            for text in each.options
        ]
        np.testing.assert_allclose(row["log_likelihoods"], expected, rtol=1e-6)
        np.testing.assert_allclose(
            row["by_character"], [e / len(t) for e, t in zip(expected, each.options, strict=True)], rtol=1e-6
        )
        assert row["right"] == each.label and row["chosen"] == int(np.argmax(expected))


def test_both_accuracies_are_of_their_own_kind_of_score_and_one_of_them_stays(tmp_path):
    model, records = encoded(write_llama(tmp_path, template=None, bits={**LETTERS, "</s>": 4.0}))
    outcomes = local_task("choice").outcomes(model, records)
    # By sum: flu, 77 against walk (24 bits against 20), no. By character: flu, the words, all alike but for the blank.
    assert Accuracy().local(outcomes) == pytest.approx(1 / 3)
    assert NormalisedAccuracy().local(outcomes) == pytest.approx(1 / 3)
    assert NormalisedAccuracy().statistics == () and NormalisedAccuracy().contributions is not None
    assert [m.name for m in local_task("choice").declaration.released] == ["accuracy", "loss"]


def test_the_loss_is_the_cross_entropy_over_summed_likelihoods(tmp_path):
    model, records = encoded(write_llama(tmp_path), moved=True)
    outcomes = local_task("choice").outcomes(model, records)
    with torch.no_grad():
        losses = local_task("choice").losses(model, records, np.arange(3)).numpy()
    for loss, exact, row in zip(losses, outcomes.losses, local_task("choice").details(outcomes), strict=True):
        sums = np.array(row["log_likelihoods"])
        by_hand = np.log(np.exp(sums - sums[row["right"]]).sum())
        assert exact == pytest.approx(by_hand, rel=1e-9)
        assert loss == pytest.approx(by_hand, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("top_layers", [None, 1])
@pytest.mark.parametrize("backend", ["fast", "opacus-hooks"])
def test_gradients_of_records_are_exact_though_each_has_several_texts(tmp_path, top_layers, backend):
    lora = replace(CAUSAL, top_layers=top_layers)
    model, records = encoded(write_llama(tmp_path), lora=lora, moved=True)
    task, trained = local_task("choice"), [p for p in model.parameters() if p.requires_grad]
    parameters = DPParameters(noise_multiplier=1.0, clip=1.0, sampling_rate=0.5, expected_batch=2.0)
    optimizer = torch.optim.SGD(trained, lr=0.1)
    with PrivateEngine(model, optimizer, parameters, SecureStream.from_os(), backend=backend) as engine:
        _, rows = engine.gradients(lambda r: task.losses(model, records, r), np.arange(3))
        for row in range(3):
            alone = engine.plain_gradient(lambda r: task.losses(model, records, r), np.array([row]))
            assert np.linalg.norm(rows[row] - alone) <= 5e-6 * np.linalg.norm(alone)


def test_records_of_hospitals_are_pooled_and_chosen_with_all_their_options(tmp_path):
    files = write_llama(tmp_path)
    model, first = encoded(files, moved=True)
    _, second = encoded(files, examples=ASKED[1:], moved=True)
    task, pooled = local_task("choice"), Records.pool([first, second])
    apart = np.concatenate([task.outcomes(model, part).losses for part in (first, second)])
    np.testing.assert_allclose(task.outcomes(model, pooled).losses, apart[pooled.order], rtol=1e-5)
    assert isinstance(pooled.inputs, OptionInputs)
    rows = np.array([2, 0])
    assert pooled.inputs.chosen(rows).lengths.tolist() == pooled.inputs.lengths[rows].tolist()


def test_a_question_of_which_one_option_does_not_fit_is_left_out_and_counted(tmp_path):
    files = write_llama(tmp_path)
    long = question("d", "q", ("short", "l" * 80), 0)
    _, records = encoded(files, examples=[*ASKED, long])
    assert (len(records), records.left_out) == (3, 1)
    with raises("FW-DATA-034"):
        encoded(files, examples=[long])


def test_labels_are_never_guessed(tmp_path):
    told = {"question": "may i", "options": {"A": "yes", "B": "no"}, "answer_idx": "B"}
    untold = {"question": "and now", "options": {"A": "yes", "B": "no"}, "answer_idx": ""}
    path = tmp_path / "exam.jsonl"
    path.write_text("\n".join(map(json.dumps, (told, untold))))
    (only,) = load_examples(path, format="choices", task="choice")
    assert (only.label, only.options, only.turns) == (1, ("yes", "no"), (("user", "may i"),))


def test_a_pair_is_scored_after_what_both_sides_share(tmp_path):
    files = write_llama(tmp_path, bits={**LETTERS, "<|im_end|>": 4.0})
    turns = (("user", "hi"), ("assistant", "55"), ("user", "may i"))
    pair = Example("a", "", "any", 0, turns=turns, options=("abc", "777"))
    model, records = encoded(files, task="preference", examples=[pair])
    (row,) = local_task("preference").details(local_task("preference").outcomes(model, records))
    assert row["chosen"] == pytest.approx(surprise(3, [4]), rel=1e-6)
    assert row["rejected"] == pytest.approx(surprise(0, [12, 12, 12, 4]), rel=1e-6)


def test_made_up_records_for_timing_have_options_too(tmp_path):
    from fedward.client.models.inputs import prepare
    from fedward.client.models.tokens import Tokens

    files, task = write_llama(tmp_path), local_task("choice")
    model = build(files, CAUSAL, seed=0)
    tokens = Tokens(np.ones((3, 16), np.int64), np.ones((3, 16), np.int64))
    inputs = prepare(model, task.arranged(tokens))
    units = np.arange(3)
    records = Records(inputs, task.made_up(3, 16), units, ("",) * 3, units)
    assert task.losses(model, records, units).detach().numpy() == pytest.approx([np.log(4)] * 3, rel=1e-4)


def test_an_option_is_what_stands_beyond_the_tokens_of_the_question(tmp_path):
    writer = Writer(write_llama(tmp_path, template=None, begin=True))
    found = writer.continued("Question: a\nAnswer:", " b")
    assert sum(found.scored) == 2 and found.scored[-2:] == [True, True]
    asked = local_task("choice").prompt(writer, [Turn("user", "a")])
    assert found.ids[: len(asked)] == asked


def test_canaries_get_the_least_likely_option(tmp_path):
    model, records = encoded(write_llama(tmp_path, template=None, bits={**LETTERS, "</s>": 4.0}))
    task = local_task("choice")
    assert by_file(records, task.unlikely(task.outcomes(model, records))) == [1, 0, 3]


def test_hospitals_add_up_bounded_accuracy_and_loss_alone():
    assert evaluation_statistics.__module__ == "fedward.client.records"
    names = {each.name for each in local_task("choice").declaration.statistics}
    assert names == {"accuracy", "loss", "units"}
