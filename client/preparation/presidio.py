"""Presidio, Microsoft's recogniser of identifiers, as a second pass after the rules; an optional extra.

It looks for what has no form of its own: persons and places. Dates, numbers, telephones and e-mail are the rules' own,
and Presidio's recognisers of these are left out: that of e-mail fetches a list of domains. Nothing is fetched here: a
language model that is not installed is refused, where Presidio would download one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

from fedward.client.data.deid_english import NO_DISEASE
from fedward.errors import PreflightError

Second = Callable[[str], Iterator[tuple[str, int, int]]]  # class and range of each identifier in a text

MODEL = "en_core_web_lg"
"""The spaCy pipeline of Presidio's own examples."""

_CLASSES = {"PERSON": "NAME", "LOCATION": "ADDRESS"}
_LANGUAGE = "en"
_SURE = 0.5
_NAME = re.compile(NO_DISEASE)
_NUMBER = re.compile(r"\d")


def presidio(model: str = MODEL) -> Second:
    """Finds persons and places in English text, on a spaCy pipeline: an installed one, or a folder.

    A name before *disease*, *catheter* and their like stays, as it does under the rules. What holds a digit is no name,
    though small pipelines take ``BP 120/78`` for one, and addresses with numbers are known to the rules.

    Raises FW-PREFLIGHT-002 where Presidio or the pipeline is absent.
    """
    try:
        from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
        from presidio_analyzer.nlp_engine import NlpEngineProvider
        from presidio_analyzer.predefined_recognizers import SpacyRecognizer
    except ModuleNotFoundError as error:
        raise _absent("Presidio is not installed here.", model) from error
    if not (Path(model).is_dir() or (model.isidentifier() and find_spec(model))):
        raise _absent(f"The language model {model} is not installed here.", model)
    models = {"nlp_engine_name": "spacy", "models": [{"lang_code": _LANGUAGE, "model_name": model}]}
    registry = RecognizerRegistry(recognizers=[SpacyRecognizer()], supported_languages=[_LANGUAGE])
    engine = AnalyzerEngine(
        registry=registry,
        nlp_engine=NlpEngineProvider(nlp_configuration=models).create_engine(),
        supported_languages=[_LANGUAGE],
    )

    def find(text: str) -> Iterator[tuple[str, int, int]]:
        for each in engine.analyze(text=text, language=_LANGUAGE, entities=[*_CLASSES], score_threshold=_SURE):
            if _NAME.match(text, each.end) and not _NUMBER.search(text, each.start, each.end):
                yield _CLASSES[each.entity_type], each.start, each.end

    return find


def _absent(words: str, model: str) -> PreflightError:
    fix = f"Install fedward[presidio] and `python -m spacy download {model}`, or name another with --presidio-model."
    return PreflightError(words, code="FW-PREFLIGHT-002", fix=fix)
