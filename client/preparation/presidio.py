"""Presidio, Microsoft's recogniser of identifiers, as a second pass after the rules; an optional extra."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from fedward.errors import PreflightError

Second = Callable[[str], Iterator[tuple[str, int, int]]]  # class and range of each identifier in a text

_CLASSES = {"PERSON": "NAME", "LOCATION": "ADDRESS", "EMAIL_ADDRESS": "EMAIL", "PHONE_NUMBER": "PHONE", "US_SSN": "SSN"}
_LANGUAGE = "en"
_SURE = 0.5


def presidio() -> Second:
    """Finds persons, places, e-mail and telephones in English text; raises FW-PREFLIGHT-002 if it is absent."""
    try:
        from presidio_analyzer import AnalyzerEngine
    except ModuleNotFoundError as error:
        raise PreflightError(
            "Presidio is not installed here.",
            code="FW-PREFLIGHT-002",
            fix="Install fedward[presidio] and its model: `python -m spacy download en_core_web_lg`.",
        ) from error
    engine = AnalyzerEngine()

    def find(text: str) -> Iterator[tuple[str, int, int]]:
        for each in engine.analyze(text=text, language=_LANGUAGE, entities=[*_CLASSES], score_threshold=_SURE):
            yield _CLASSES[each.entity_type], each.start, each.end

    return find
