"""The script that pre-trains the packaged decoder, and the decoder that it made and that is committed."""

import numpy as np
import pytest
import torch

from fedward.client.corpora.corpus import Turn
from fedward.client.data import Example
from fedward.client.models.adapter_model import LoraSettings, build, load_base
from fedward.client.models.registry import PACKAGED_FOLDER, read_model_folder
from fedward.client.models.templates import Writer
from fedward.client.models.tokens import load_tokenizer, unrepresented
from fedward.client.records import Records
from fedward.client.tasks import local_task
from fedward.simulations.synthetic import HospitalSpec, default_hospitals
from fedward.simulations.synthetic import note_phrases as said
from fedward.simulations.synthetic.notes import draw_noted_hospital, draw_notes
from fedward.tasks.task import Head
from scripts.pretrain_decoder.__main__ import main
from scripts.pretrain_decoder.corpus import CORPUS_DOMAIN, corpus
from scripts.pretrain_decoder.decoder import PretrainingSettings, Sequences, pretrain

SMALL = PretrainingSettings(hidden=16, layers=1, heads=2, intermediate=16, positions=64, batch=8)


@pytest.fixture(scope="module")
def tiny():
    return read_model_folder(PACKAGED_FOLDER / "tiny_decoder", "tiny-decoder")


def rows_of_numbers(n=200):
    """Each number is followed by the next one, so the next token is certain."""
    return Sequences([np.arange(start, start + 8) % 20 for start in range(n)])


def test_the_same_seed_gives_the_same_weights_and_learns():
    losses = []
    first, _ = pretrain(rows_of_numbers(), 20, SMALL, lambda *step: losses.append(step[2]))
    second, _ = pretrain(rows_of_numbers(), 20, SMALL, lambda *_: None)
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(one, other)
        assert torch.equal(one, one.to(torch.bfloat16).float())
    assert losses[-1] < 0.9 * losses[0]


def test_the_script_writes_a_model_that_fedward_reads(tmp_path, capsys):
    main(["--out", str(tmp_path / "made"), "--hospitals", "1"])
    files = read_model_folder(tmp_path / "made", "made")
    assert files.sha256 in capsys.readouterr().out
    assert files.sha256 in (tmp_path / "made" / "DATA_CARD.md").read_text()
    assert load_base(files, "causal").training is False


def test_the_card_names_the_committed_files(tiny):
    text = (tiny.folder / "DATA_CARD.md").read_text()
    assert tiny.sha256 in text
    assert f"{CORPUS_DOMAIN:#x}" in text
    assert (tiny.folder / "model.safetensors").stat().st_size < 6 * 2**20
    assert 1e6 < sum(parameter.numel() for parameter in load_base(tiny, "causal").parameters()) < 2e6


def test_every_text_is_written_without_unknowns_and_read_back(tiny):
    writer = Writer(tiny)
    texts = ["患者头痛三天，伴恶心。龘", "Fever \N{GREEK SMALL LETTER ALPHA}, naïve, 38.5 °C\n\ttab", "<|im_end|>"]
    for text in texts:
        written = writer.text(text)
        assert writer.read(written.ids[1:-1]) == text
        assert written.scored == [False, *[True] * (len(written) - 1)]
    assert set(unrepresented(load_tokenizer(tiny), texts).values()) == {0.0}
    assert 2000 <= load_tokenizer(tiny).get_vocab_size() <= 4096
    assert len(writer.text("发热胸痛").ids) <= 8


def test_its_template_is_chatml(tiny):
    writer = Writer(tiny)
    assert writer.template.name == "chatml"
    asked = writer.conversation([Turn("user", "What does febrile mean?"), Turn("assistant", "It means fever.")])
    assert sum(asked.scored) == len(load_tokenizer(tiny).encode("It means fever.", add_special_tokens=False).ids) + 1


def test_the_corpus_has_no_house_wording_and_no_hospital_of_a_scenario():
    texts = [str(text) for text in corpus(range(3))]
    assert texts == [str(text) for text in corpus(range(3))]
    house = [*said.HOUSE_PRESENT.values(), *said.PLAN.house, *said.EXAMINED.house, *said.SEEN.house]
    assert not any(wording.strip().lower() in text.lower() for text in texts for wording in house)
    scenario = {note for hospital in draw_notes(default_hospitals(), 1) for note in hospital.notes.values()}
    assert scenario.isdisjoint(texts)


def test_it_writes_notes_of_unknown_hospitals_nearly_as_well_as_can_be(tiny):
    spec = HospitalSpec("fresh", 150, covariate_shift=0.35)
    hospital = draw_noted_hospital(spec, 0, (CORPUS_DOMAIN, 10**6), house=0.0)
    model = build(tiny, LoraSettings(rank=1, targets=("query",), head=Head("causal")), seed=0)
    task = local_task("clm")
    examples = [Example(patient, "", note, "", "en") for patient, note in hospital.notes.items()]
    records = Records.encode(examples, task, tiny, model, max_tokens=96)
    assert records.inputs.cut == records.left_out == 0
    found, best = task.declaration.headline.local(task.outcomes(model, records)), np.mean([*hospital.truth().values()])
    assert best < found < 1.25 * best
