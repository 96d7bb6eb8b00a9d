"""The unsigned terms in a plan folder: what `fedward plan new` computes and `fedward plan sign` signs."""

from __future__ import annotations

from pathlib import Path

from fedward.agreements.proposal import PlanTerms
from fedward.errors import AuthenticationError
from fedward.messages import MalformedMessageError
from fedward.storage import PUBLIC, read_limited, replace_file

TERMS_FILE = "terms.cbor"
_MAX_BYTES = 128 * 1024


def write_terms(terms: PlanTerms, folder: Path) -> None:
    """Writes the terms into ``folder``."""
    replace_file(folder / TERMS_FILE, terms.to_bytes(), mode=PUBLIC)


def read_terms(folder: Path) -> PlanTerms:
    """Reads them again and checks that the plan is the one they name.

    Raises FW-AUTH-304 (there are none, or they are malformed), FW-VERSION-301 (the plan was written by another
    version).
    """
    try:
        terms = PlanTerms.from_bytes(read_limited(folder / TERMS_FILE, _MAX_BYTES))
    except MalformedMessageError as error:
        raise AuthenticationError("The terms of the plan folder cannot be read.", code="FW-AUTH-304") from error
    terms.read()
    return terms
