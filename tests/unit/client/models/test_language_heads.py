"""Language models of every family: the library's own numbers, cached or not, and exact gradients of each record."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers
from peft import PeftModel

from fedward.client.models.adapter_files import load_adapter, save_adapter
from fedward.client.models.adapter_model import LoraSettings, build, get_vector, layout_of, set_vector, trainable
from fedward.client.models.families import FAMILIES
from fedward.client.models.families.family import LANGUAGE_HEADS
from fedward.client.models.inputs import PairInputs, PrefixInputs, TokenInputs, prepare
from fedward.client.models.tokens import tokenize
from fedward.privacy.dpsgd.clipping import DPParameters
from fedward.privacy.dpsgd.engine import PrivateEngine
from fedward.privacy.noise import SecureStream
from fedward.tasks.task import Head
from tests.unit.client.models.conftest import all_targets

TEXTS = ["age 70s . male . micu . lactate high . sepsis", "age 40s . female", "no fever . creatinine normal . cough"]
RECORDS = np.arange(3)
LARGEST_ERROR = 5e-6
PRIVATE = DPParameters(noise_multiplier=1.0, clip=1.0, sampling_rate=0.5, expected_batch=3.0)
THEIRS = {
    "causal": transformers.AutoModelForCausalLM,
    "masked": transformers.AutoModelForMaskedLM,
    "seq2seq": transformers.AutoModelForSeq2SeqLM,
}
HEADS = sorted((name, kind) for name, family in FAMILIES.items() for kind in family.heads)
LANGUAGE = [(name, kind) for name, kind in HEADS if kind in LANGUAGE_HEADS]


def adapted(files, kind, *, scale=0.3, **options):
    """A model with LoRA of random numbers on every target of its family."""
    head = Head(kind, 3) if kind == "token" else Head(kind)
    lora = LoraSettings(rank=2, targets=all_targets(files.config(), kind), head=head, **options)
    model = build(files, lora, seed=4)
    set_vector(model, np.random.default_rng(1).normal(0, scale, layout_of(model).size).astype(np.float32))
    return model


def plain(model, tokens):
    """Inputs of which every layer that reads them token by token is computed."""
    return prepare(model, tokens) if model.config.family.encoder else TokenInputs(tokens)


def losses_of(model, inputs, rows, targets):
    """A loss of each record in ``rows`` that reads all that its head gives."""
    outputs = inputs.outputs(model, rows)
    if model.lora.head.kind == "sequence":
        return torch.nn.functional.softplus(outputs)
    wanted = torch.nn.functional.pad(targets[rows], (0, max(0, outputs.shape[1] - targets.shape[1])), value=-1)
    wanted = wanted[:, : outputs.shape[1]]
    scored = wanted >= 0
    per_token = torch.zeros(wanted.shape)
    if model.lora.head.kind == "token":
        per_token[scored] = outputs[scored].square().sum(dim=1)
    else:
        per_token[scored] = model.token_losses(outputs[scored], wanted[scored])
    return per_token.sum(dim=1) / scored.sum(dim=1)


@pytest.fixture
def case(make_model, request):
    """Files of a family for a kind of head, its tokens, and at each place the id that is to be predicted, or -1.

    A decoder predicts the token that follows, an encoder, here, one in three of the tokens themselves.
    """
    family, kind = request.param
    files = make_model(family, kind=kind)
    tokens = tokenize(files, TEXTS, max_tokens=16)
    wanted = torch.from_numpy(np.where(tokens.attention_mask == 1, tokens.input_ids, -1))
    if kind == "seq2seq":
        return files, kind, replace(tokens, source=tokenize(files, TEXTS[::-1], max_tokens=16)), wanted
    if kind == "causal":
        wanted = wanted.roll(-1, dims=1)
        wanted[:, -1] = -1
    else:
        wanted[:, np.arange(wanted.shape[1]) % 3 != 1] = -1
    return files, kind, tokens, wanted


@pytest.mark.parametrize("case", LANGUAGE, ids="-".join, indirect=True)
def test_logits_and_loss_are_those_of_the_library_under_plain_peft(case, tmp_path):
    files, kind, tokens, wanted = case
    model = adapted(files, kind)
    save_adapter(model, tmp_path / "adapter", base=files, card="card", task="clm", max_tokens=16)
    base = THEIRS[kind].from_pretrained(files.folder)
    theirs = PeftModel.from_pretrained(base, str(tmp_path / "adapter")).eval()
    ids, mask = torch.from_numpy(tokens.input_ids), torch.from_numpy(tokens.attention_mask)
    kept, scored = mask.bool(), wanted >= 0
    labels = ids if kind == "causal" else wanted
    with torch.no_grad():
        labels = torch.where(kept & (labels >= 0), labels, -100)
        texts = {"input_ids": ids, "attention_mask": mask}
        if kind == "seq2seq":
            read = [torch.from_numpy(each) for each in (tokens.source.input_ids, tokens.source.attention_mask)]
            texts = {f"decoder_{name}": each for name, each in texts.items()} | dict(zip(texts, read, strict=True))
        expected = theirs(**texts, labels=labels)
        hidden = plain(model, tokens).outputs(model, RECORDS)[:, : scored.shape[1]]
        losses = model.token_losses(hidden[scored], wanted[scored])
    torch.testing.assert_close(model.logits(hidden[kept]), expected.logits[kept], rtol=0, atol=1e-5)
    torch.testing.assert_close(losses.mean(), expected.loss, rtol=0, atol=1e-5)
    loaded = load_adapter(tmp_path / "adapter", base=files)
    assert np.array_equal(get_vector(loaded), get_vector(model))


def chosen(tokens, rows):
    source = tokens.source and chosen(tokens.source, rows)
    return replace(tokens, input_ids=tokens.input_ids[rows], attention_mask=tokens.attention_mask[rows], source=source)


@pytest.mark.parametrize("case", LANGUAGE, ids="-".join, indirect=True)
def test_cached_lower_layers_give_the_same_losses(case):
    files, kind, tokens, wanted = case
    model = adapted(files, kind, top_layers=1)
    cached = prepare(model, tokens)
    if kind == "seq2seq":  # the encoder's output is kept; parts of hospitals are put together
        assert isinstance(cached, PairInputs)
        whole = PairInputs.joined([prepare(model, chosen(tokens, rows)) for rows in ([0, 2], [1])])
        whole = whole.chosen(np.array([0, 2, 1]))
        assert np.array_equal(whole.lengths, cached.lengths)
    else:
        assert isinstance(cached, PrefixInputs)
        whole = TokenInputs(tokens)
    with torch.no_grad():
        expected, found = (losses_of(model, inputs, RECORDS, wanted) for inputs in (whole, cached))
        alone = torch.cat([losses_of(model, cached, RECORDS[n : n + 1], wanted) for n in RECORDS])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(found, alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("case", HEADS, ids="-".join, indirect=True)
def test_gradients_of_records_are_those_of_each_alone(case):
    files, kind, tokens, wanted = case
    # Larger adapters make models so small chaotic: the rounding of other company is then amplified on its way down.
    model = adapted(files, kind, scale=0.03)
    inputs = plain(model, tokens)

    def losses(rows):
        return losses_of(model, inputs, rows, wanted)

    parameters = trainable(model)
    optimizer = torch.optim.SGD(parameters.values(), lr=0.0)
    with PrivateEngine(model, optimizer, PRIVATE, SecureStream(bytes(32)), backend="fast") as engine:
        _, together = engine.gradients(losses, RECORDS)
    sizes = [parameter.numel() for parameter in parameters.values()]
    for record in RECORDS:
        alone = torch.autograd.grad(losses(np.array([record])).sum(), list(parameters.values()))
        parts = torch.from_numpy(together[record]).double().split(sizes)
        for name, part, expected in zip(parameters, parts, alone, strict=True):
            exact = expected.flatten().double()
            assert (part - exact).norm() <= LARGEST_ERROR * exact.norm(), (name, (part - exact).norm() / exact.norm())
            assert exact.norm() > 0 or name.endswith("head.bias"), name
