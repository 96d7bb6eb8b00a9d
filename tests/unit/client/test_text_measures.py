"""Measures of written answers: right for Chinese, equal to their libraries for English, and never zero in silence."""

import pytest

from fedward.client.text_measures import TEXT_MEASURES, Answers, text_scores, tokens_of
from tests.codes import raises

pytestmark = pytest.mark.torch

CHINESE = Answers(["多喝水休息", "多喝水"], [["多喝水休息"], ["多喝水休息"]])
ENGLISH = Answers(["drink water and rest", "Take two"], [["drink water"], ["take two tablets", "two a day"]])


def value(found, name):
    (number,) = [each for key, each in found[name].items() if key != "signature"]
    return number


def test_chinese_is_counted_by_characters_and_says_so():
    found, rows = text_scores(CHINESE, ["rouge"])
    assert found["rouge_l"] == {"mean_f_over_characters": pytest.approx(0.875)}
    assert [row["rouge_l"] for row in rows] == pytest.approx([1.0, 0.75])
    assert found["counted_by"] == "characters"


@pytest.mark.parametrize(
    ("said", "right"),
    [
        ("нет жара", "нет жара"),
        ("pas de fièvre", "pas de fièvre"),
        ("बुखार नहीं", "बुखार नहीं"),
        ("休む", "休む"),
        ("ไข้สูง", "ไข้สูง"),
    ],
)
def test_no_alphabet_is_zero(said, right):
    found, _ = text_scores(Answers([said], [[right]]), ["rouge", "gleu", "bleu", "exact"])
    assert value(found, "rouge_1") == value(found, "exact") == 1.0
    assert value(found, "gleu") > 0.99 and value(found, "bleu") != 0


def test_english_is_what_the_library_says():
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"])
    expected = [
        scorer.score_multi(list(right), said)["rougeL"].fmeasure
        for said, right in zip(ENGLISH.written, ENGLISH.references, strict=True)
    ]
    found, rows = text_scores(ENGLISH, ["rouge"])
    assert [row["rouge_l"] for row in rows] == pytest.approx(expected)
    assert found["rouge_l"] == {"mean_f_over_words": pytest.approx(sum(expected) / 2)}


def test_bleu_names_its_tokenizer_and_takes_as_many_references_as_there_are():
    import sacrebleu

    found, _ = text_scores(Answers(["drink some water and rest now"], [["drink some water and rest"]]), ["bleu"])
    expected = sacrebleu.corpus_bleu(["drink some water and rest now"], [["drink some water and rest"]]).score
    assert value(found, "bleu") == pytest.approx(expected)
    assert "tok:13a" in found["bleu"]["signature"]
    assert "tok:zh" in text_scores(CHINESE, ["bleu"])[0]["bleu"]["signature"]
    assert value(text_scores(ENGLISH, ["bleu"])[0], "bleu") >= 0.0


def test_distinct_counts_different_words_of_all_texts():
    found, _ = text_scores(Answers(["a b a", "a b"], [["x"], ["x"]]), ["distinct"])
    assert (value(found, "distinct_1"), value(found, "distinct_2")) == (2 / 5, 2 / 3)


def test_exact_match_forgives_case_and_blanks_alone():
    found, rows = text_scores(Answers([" Two  tablets", "two tablets."], [["two tablets"], ["two tablets"]]), ["exact"])
    assert [row["exact"] for row in rows] == [True, False] and value(found, "exact") == 0.5


def test_empty_answers_are_zero_and_no_error():
    found, _ = text_scores(Answers(["", "水"], [["water"], ["水"]]), list(TEXT_MEASURES))
    assert value(found, "rouge_l") == value(found, "gleu") == 0.5
    assert found["counted_by"] == "words or characters"


def test_signs_stand_for_nothing_and_marks_belong_to_their_letters():
    assert tokens_of("Fever: 38.5, हिन्दी!", by_character=False) == ["fever", "38", "5", "हिन्दी"]
    assert tokens_of("多喝 水。", by_character=True) == ["多", "喝", "水"]


def test_an_unknown_measure_is_refused():
    with raises("FW-CONFIG-044"):
        text_scores(CHINESE, ["meteor"])
