import json
import os

import pytest

from fedward.agreements import proposal
from fedward.agreements.proposal import PlanTerms, Proposal, read_terms, write_terms
from fedward.messages import encode
from fedward.plan import Plan
from fedward.privacy.secagg.crypto import Envelope, Identity
from tests.codes import raises

COORDINATOR = Identity.from_seed("coordinator", os.urandom(32))
PLAN = Plan(name="icu", base_model_sha256="ab" * 32)


def terms(**changes):
    plan = PLAN
    fields = {
        "plan": plan.model_dump_json().encode(),
        "plan_hash": plan.hash(),
        "base_model_hash": bytes.fromhex(plan.base_model_sha256),
        "adapter_layout_hash": b"l" * 32,
        "initial_adapter_hash": b"i" * 32,
        "family": "bert",
        "code_hash": b"c" * 32,
        "parameters": 1000,
    }
    return PlanTerms(**{**fields, **changes})


def signed(**changes):
    return proposal.sign_proposal(Proposal("demo", "icu-1", terms(**changes), 100, 200), COORDINATOR)


def test_a_signed_plan_is_read_as_it_was_made():
    verified = proposal.open_proposal(signed(), COORDINATOR.public)
    assert verified.plan == PLAN
    assert (verified.proposal.run, verified.proposal.expires) == ("icu-1", 200)
    other = proposal.sign_proposal(Proposal("demo", "icu-2", terms(), 100, 200), COORDINATOR)
    assert proposal.open_proposal(other, COORDINATOR.public).fingerprint != verified.fingerprint


def test_only_the_pinned_coordinator_signs_plans():
    stranger = Identity.from_seed("coordinator", os.urandom(32))
    for data in (signed()[:-1], b"", b"x" * 200_000):
        with raises("FW-AUTH-304") as caught:
            proposal.open_proposal(data, COORDINATOR.public)
        assert caught.value.exit_code == 7
    with raises("FW-AUTH-304"):
        proposal.open_proposal(signed(), stranger.public)


def test_a_plan_file_is_not_read_beyond_its_size(monkeypatch):
    monkeypatch.setattr(proposal, "open_sealed", lambda *_: pytest.fail("its signature was looked at"))
    with raises("FW-AUTH-304", match="too large"):
        proposal.open_proposal(b"x" * (proposal.MAX_PROPOSAL_BYTES + 1), COORDINATOR.public)


@pytest.mark.parametrize(("made", "expires"), [(proposal.LAST_MOMENT + 1, 200), (100, proposal.LAST_MOMENT + 1)])
def test_dates_beyond_the_calendar_are_refused_by_name(made, expires):
    sealed = proposal.sign_proposal(Proposal("demo", "icu-1", terms(), made, expires), COORDINATOR)
    with raises("FW-POLICY-320"):
        proposal.open_proposal(sealed, COORDINATOR.public)


@pytest.mark.parametrize("field", ["plan_hash", "base_model_hash"])
@pytest.mark.attack("coordinator", "signs a plan that hospitals read otherwise")
def test_a_plan_that_means_something_else_here_is_refused(field):
    with raises("FW-VERSION-301"):
        proposal.open_proposal(signed(**{field: b"x" * 32}), COORDINATOR.public)


def test_a_plan_with_keys_of_another_version_is_refused():
    with raises("FW-VERSION-301"):
        proposal.open_proposal(signed(plan=b'{"name": "icu", "noise": 0}'), COORDINATOR.public)


@pytest.mark.parametrize(
    "name", ["/srv/models/other", "../cache/other", "models/other", "..", ".hidden", "a\\b", "a\n", ""]
)
def test_a_plan_names_a_base_model_and_no_path(name):
    """Broken: the coordinator chooses what is opened on a hospital's machine, and the refusal says what is there."""
    document = {**PLAN.model_dump(mode="json"), "base_model": name}
    with raises("FW-POLICY-320", match="base_model"):
        proposal.open_proposal(signed(plan=json.dumps(document).encode()), COORDINATOR.public)


def test_what_a_plan_cannot_be_is_said_without_its_own_words():
    ranks = {"\x1b]0;own\x07": 300}
    document = {**PLAN.model_dump(mode="json"), "adapter": {**PLAN.adapter.model_dump(mode="json"), "ranks": ranks}}
    with raises("FW-POLICY-320") as caught:
        proposal.open_proposal(signed(plan=json.dumps(document).encode()), COORDINATOR.public)
    assert "adapter.ranks" in caught.value.message
    assert caught.value.message.isprintable()


def test_a_plan_that_another_release_has_signed_is_not_called_a_forgery():
    """Terms had no model family before version 0.2."""
    fields = Proposal("demo", "icu-1", terms(), 100, 200).to_value()
    del fields["terms"]["family"]
    body = encode(fields)
    envelope = Envelope(body, COORDINATOR.sign("plan", body)).to_bytes()
    with raises("FW-VERSION-301"):
        proposal.open_proposal(envelope, COORDINATOR.public)


def test_terms_lie_in_the_plan_folder(tmp_path):
    write_terms(terms(), tmp_path)
    assert read_terms(tmp_path) == terms()
    (tmp_path / "terms.cbor").write_bytes(b"\xa0")
    with raises("FW-AUTH-304"):
        read_terms(tmp_path)
