"""Published tables, texts of nobody, and the encoder that was made of them."""

import math
import re

import numpy as np
import pytest
import torch

from fedward.client.data.buckets import measurements
from fedward.client.models.adapter_model import LoraSettings, build
from fedward.client.models.registry import PACKAGED_FOLDER, read_model_folder, resolve
from fedward.client.models.tokens import load_tokenizer
from scripts.pretrain_prior import __main__ as script
from scripts.pretrain_prior import tables
from scripts.pretrain_prior.encoder import Settings
from scripts.pretrain_prior.texts import draw


@pytest.mark.parametrize(
    ("table", "name", "value", "points"),
    [
        (tables.APACHE_II, "temperature", 41.0, 4),
        (tables.APACHE_II, "temperature", 37.0, 0),
        (tables.APACHE_II, "blood pressure", 49.0, 4),
        (tables.APACHE_II, "heart rate", 55.0, 2),
        (tables.APACHE_II, "acidity", 7.14, 4),
        (tables.APACHE_II, "coma scale", 15.0, 0),
        (tables.APACHE_II, "coma scale", 3.0, 12),
        (tables.SAPS_II, "coma scale", 5.0, 26),
        (tables.SAPS_II, "urine", 499.0, 11),
        (tables.SAPS_II, "bicarbonate", 14.9, 6),
        (tables.SAPS_II, "bilirubin", 6.0, 9),
    ],
)
def test_points_are_the_published_ones(table, name, value, points):
    assert table[name](value) == points


def test_risks_are_those_of_the_published_equations():
    """SAPS II: 29 points are 9.7 %, 40 points 24.7 %, 52 points 50.7 % (Le Gall et al. 1993)."""
    for points, risk in ((29, 0.097), (40, 0.247), (52, 0.507)):
        assert 1 / (1 + math.exp(-tables.risk_saps(points))) == pytest.approx(risk, abs=0.003)
    septic = tables.risk_apache(25, 0.113, emergency_surgery=False)
    assert 1 / (1 + math.exp(-septic)) == pytest.approx(0.562, abs=0.002)


def test_every_measurement_of_the_tables_is_one_of_ours():
    for table in (tables.APACHE_II, tables.SAPS_II, tables.LATER):
        assert set(table) <= set(measurements())
        for points in table.values():
            assert len(points.points) == len(points.edges) + 1
            assert list(points.edges) == sorted(points.edges)
    names = [name for category in tables.categories() for name in category.names]
    assert len(names) == len(set(names))


def test_the_same_stream_draws_the_same_texts_and_no_outcome():
    first, again = list(draw(5, 60)), list(draw(5, 60))
    assert [each.text for each in first] == [each.text for each in again]
    words = " ".join(each.text for each in first)
    assert not re.search(r"\b(died|death|expired|alive|discharged|mortality|predicted)\b", words)
    assert all(math.isfinite(each.logit) for each in first)


def test_the_script_repeats_a_folder_bit_for_bit(tmp_path):
    settings = Settings(hidden=8, layers=1, heads=2, intermediate=16, epochs=1)
    made = [script.make(tmp_path / name, 120, settings) for name in ("one", "two")]
    assert made[0].sha256 == made[1].sha256
    assert made[0].config().pooling == "sum"
    assert (tmp_path / "one/DATA_CARD.md").read_text() == (tmp_path / "two/DATA_CARD.md").read_text()


@pytest.fixture(scope="module")
def risks():
    """What the packaged encoder says of texts, as logits."""
    files = resolve("clinical-prior")
    config, tokenizer = files.config(), load_tokenizer(files)
    lora = LoraSettings(rank=1, targets=("query",), top_layers=1, start=config.read_outs["mortality"])
    model = build(files, lora, seed=0)

    def of(*texts):
        values = []
        for text in texts:
            ids = torch.tensor([tokenizer.encode(text).ids])
            with torch.no_grad():
                values.append(float(model(ids, torch.ones_like(ids))))
        return np.array(values)

    return of


def test_the_packaged_encoder_adds_up_severity(risks):
    stay = "age 60s . male . micu . from emergency department . pneumonia bacterial"
    signs = ["coma scale very low", "blood pressure extremely low", "vasopressors", "lactate very high"]
    worse = risks(*(" . ".join([stay, *signs[:n]]) for n in range(len(signs) + 1)))
    assert (np.diff(worse) > 0.1).all()
    young, old = risks(stay.replace("60s", "30s"), stay.replace("60s", "80s"))
    assert old - young > 0.5
    overdose, stroke = risks(*(stay.replace("pneumonia bacterial", name) for name in ("drug overdose", "stroke")))
    assert stroke > overdose


def test_the_packaged_encoder_says_what_the_equations_say(risks):
    drawn = list(draw(99, 300))
    said, right = risks(*(each.text for each in drawn)), np.array([each.logit for each in drawn])
    assert np.corrcoef(said, right)[0, 1] > 0.93


def test_no_word_of_the_threshold_table_is_spelt_out():
    tokenizer = load_tokenizer(resolve("clinical-prior"))
    for row in measurements().values():
        for word in row.words:
            phrase = f"{row.name} {word}"
            assert [t for t in tokenizer.encode(phrase).tokens if "##" in t] == [], phrase


def test_the_card_is_that_of_the_files():
    folder = PACKAGED_FOLDER / "clinical_prior"
    sha256 = read_model_folder(folder, "clinical-prior").sha256
    card = (folder / "DATA_CARD.md").read_text(encoding="utf-8")
    assert sha256 in card
    for name, value in vars(Settings()).items():  # so that the script without options makes these files again
        assert f"| {name.replace('_', ' ')} | {value} |" in card
    assert sum(path.stat().st_size for path in folder.iterdir()) < 3 * 2**20
