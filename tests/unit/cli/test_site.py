"""The rehearsal of a hospital that has old plans on record."""

from types import SimpleNamespace

import pytest

from fedward.cli import client
from fedward.client.daemon import service
from fedward.client.daemon.approvals import Approval, OtherCodeError
from fedward.errors import PolicyError
from tests.codes import raises


@pytest.fixture
def rehearse(monkeypatch):
    def call(outcomes):
        def one(run):
            if isinstance(outcomes[run], Exception):
                raise outcomes[run]
            return outcomes[run]

        plan = SimpleNamespace(privacy=SimpleNamespace(unit="patient"))
        known = [
            Approval(SimpleNamespace(proposal=SimpleNamespace(run=run), plan=plan), SimpleNamespace(accepted=True))
            for run in outcomes
        ]
        fake = SimpleNamespace(approvals=SimpleNamespace(all=lambda: known), rehearse=one)
        monkeypatch.setattr(service, "ApprovedSite", lambda *_: fake)
        client._rehearse(None, None)

    return call


def test_a_plan_of_an_earlier_release_does_not_stop_the_rehearsal_of_the_next(rehearse, capsys):
    rehearse({"icu-1": OtherCodeError("Other code."), "icu-2": (180, 120)})
    assert capsys.readouterr().out.splitlines() == [
        "icu-1: over (FW-VERSION-302).",
        "icu-2: ready, 180 patients train, 120 measure; nothing was charged, nothing left.",
    ]


def test_a_rehearsal_of_nothing_or_of_what_would_fail_is_no_success(rehearse):
    with raises("FW-POLICY-308"):
        rehearse({})
    with pytest.raises(OtherCodeError):
        rehearse({"icu-1": OtherCodeError("Other code.")})
    with raises("FW-POLICY-306"):
        rehearse({"icu-1": (1, 1), "icu-2": PolicyError("Too few.", code="FW-POLICY-306")})
