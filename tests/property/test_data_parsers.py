"""Random bytes never crash a reader, and de-identification keeps its promises on any text."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path
from tempfile import TemporaryDirectory

from hypothesis import given, settings
from hypothesis import strategies as st

from fedward.client.corpora import corpus_named
from fedward.client.data.deid_english import scrub
from fedward.client.data.text import clean, language_of, normal, plain, shadow
from fedward.client.examples import load_examples
from fedward.client.folder import check_folder
from fedward.errors import DataError

FIXTURES = Path(__file__).parents[1] / "fixtures"
TABLES = ("PATIENTS", "ADMISSIONS", "ICUSTAYS", "LABEVENTS", "NOTEEVENTS", "DIAGNOSES_ICD")
TASKS = ("mortality", "readmission", "discharge", "phenotypes")


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(TABLES),
    st.integers(0, 4000),
    st.binary(max_size=40),
    st.sampled_from(["csv", "csv.gz"]),
    st.sampled_from(TASKS),
)
def test_damaged_tables_raise_data_errors_only(table: str, place: int, junk: bytes, ending: str, task: str) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        for other in TABLES:
            content = (FIXTURES / "mimic3-several" / f"{other}.csv").read_bytes()
            if other == table:
                cut = place % (len(content) + 1)
                (folder / f"{other}.{ending}").write_bytes(content[:cut] + junk + content[cut:])
            else:
                (folder / f"{other}.csv").write_bytes(content)
        try:
            examples = load_examples(folder, format="mimic-iii", task=task)
        except DataError as error:
            assert "\n" not in error.message
        else:
            assert examples
        check_folder(folder)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 4000), st.binary(max_size=40))
def test_damaged_questions_raise_data_errors_only(place: int, junk: bytes) -> None:
    content = (FIXTURES / "pubmedqa" / "ori_pqal.json").read_bytes()
    cut = place % (len(content) + 1)
    with TemporaryDirectory() as name:
        (Path(name) / "ori_pqal.json").write_bytes(content[:cut] + junk + content[cut:])
        try:
            items = list(corpus_named("pubmedqa").items(Path(name)))
        except DataError as error:
            assert "\n" not in error.message
        else:
            assert len(items) == 4
        check_folder(Path(name))


@given(st.text(max_size=300))
def test_scrubbing_keeps_everything_outside_its_spans(text: str) -> None:
    text, cleaned = normal(text), scrub(text)
    rebuilt, position = "", 0
    for span in cleaned.spans:
        assert position <= span.start < span.end <= len(text)
        rebuilt += text[position : span.start] + f"[{span.kind}]"
        position = span.end
    assert rebuilt + text[position:] == cleaned.text


@given(st.text(max_size=200))
def test_clean_text_has_one_form(text: str) -> None:
    assert clean(clean(text)) == clean(text) == unicodedata.normalize("NFC", clean(text))
    assert "  " not in clean(text)


@given(st.text(st.characters(max_codepoint=127), max_size=200))
def test_ascii_text_is_cleaned_as_in_the_first_release(text: str) -> None:
    first = re.sub(r"\s+", " ", re.sub(r"[^a-z0-9.+/ -]+", " ", text.lower())).strip(" .-/")
    assert clean(text) == first


@given(st.text(max_size=200))
def test_no_letter_is_lost(text: str) -> None:
    def letters(text: str) -> str:
        return "".join(filter(str.isalpha, plain(normal(text)).lower()))

    assert letters(clean(text)) == letters(text)


@given(st.text(max_size=300), st.text(st.characters(codec="latin-1"), max_size=300))
def test_a_language_is_told_of_any_text(text: str, other: str) -> None:
    assert language_of(text).isascii()
    assert language_of(other).isascii()


UNSEEN = st.sampled_from(["", "\u200b", "\u00ad", "\u0301", "\u0336", "\u2060", "\ufe0f", "\u202e"])
SPELLINGS = (lambda c: c, lambda c: chr(ord(c) + 0xFEE0), lambda c: unicodedata.normalize("NFC", c + "\u0308"))


def disguised(word: str) -> st.SearchStrategy[str]:
    """The word with letters of other width or with marks, and what nobody sees between them."""
    return st.tuples(*(st.tuples(st.sampled_from(SPELLINGS), UNSEEN) for _ in word)).map(
        lambda chosen: "".join(spell(c) + unseen for c, (spell, unseen) in zip(word, chosen, strict=True))
    )


@given(disguised("Okafor"), disguised("okafor"), disguised("5550142"))
def test_a_disguised_identifier_goes(name: str, again: str, number: str) -> None:
    text = scrub(f"Mr. {name} seen, later {again} slept. MRN: {number} then").text
    assert not re.search("okaf|afor|555|142", shadow(text)[0], re.IGNORECASE)
