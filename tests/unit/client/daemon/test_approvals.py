import math
import os
from dataclasses import replace
from pathlib import Path

import pytest

from fedward.agreements.code import core_hash, reader_hash, short
from fedward.agreements.proposal import open_proposal
from fedward.client.daemon.approvals import (
    Approvals,
    ExpiredPlanError,
    Spent,
    approved_roster,
    check_cohort,
    check_family,
    check_size,
    describe_plan,
    put_in_force,
    run_epsilon,
    run_epsilon_everybody,
)
from fedward.client.daemon.settings import ClientConfig
from fedward.client.data import Example
from fedward.config import parse
from fedward.errors import FedwardError
from fedward.messages import encode
from fedward.plan import AdapterPlan, Plan
from fedward.privacy.secagg.crypto import Envelope, Identity
from fedward.privacy.secagg.roster import Member, Roster, RunPolicy, SignedRoster, approve, publish
from tests.codes import raises


@pytest.fixture
def approvals(configure, joined, at):
    def make(**policy):
        return Approvals(configure(**policy), joined, joined.identity("st-anna"), clock=lambda: at.now)

    return make


def test_nothing_is_served_that_nobody_accepted(approvals, propose):
    book = approvals()
    with raises("FW-POLICY-308"):
        book.require("icu-1")
    book.decide(book.open(propose()), accept=True, by="DPO")
    assert book.require("icu-1").proposal.run == "icu-1"
    for name in ("../../x", "../approvals/icu-1", "", "icu-2", "icu-1\n"):
        with raises("FW-POLICY-308") as caught:
            book.require(name)
        assert caught.value.exit_code == 5


def test_an_approval_can_be_withdrawn_and_given_again(approvals, propose):
    book, plan = approvals(), propose()
    book.decide(book.open(plan), accept=True, by="DPO")
    book.decide(book.open(plan), accept=False, by="DPO")
    with raises("FW-POLICY-308"):
        book.require("icu-1")
    book.decide(book.open(plan), accept=True, by="DPO")
    assert book.require("icu-1")
    (known,) = book.all()
    assert (known.accepted, known.decision.by) == (True, "DPO")


def test_an_approval_ends_with_the_plan(approvals, propose, at):
    book = approvals()
    book.decide(book.open(propose(days=30)), accept=True, by="DPO")
    at.now += 31 * 86_400
    with pytest.raises(ExpiredPlanError):
        book.require("icu-1")


def test_an_approval_holds_for_one_plan_only(approvals, propose):
    book = approvals()
    book.decide(book.open(propose()), accept=True, by="DPO")
    with raises("FW-INTEGRITY-301"):
        book.decide(book.open(propose(days=20, name="other")), accept=True, by="DPO")


def test_an_approval_is_of_the_reader_that_was_installed(approvals, propose, monkeypatch):
    book = approvals()
    book.decide(book.open(propose()), accept=True, by="DPO")
    monkeypatch.setattr("fedward.client.daemon.approvals.reader_hash", lambda format: b"r" * 32)
    upgraded = approvals()
    with raises("FW-VERSION-305", match="mimic-iii"):
        upgraded.require("icu-1")
    upgraded.decide(upgraded.open(propose()), accept=True, by="DPO")
    assert upgraded.require("icu-1")


def test_an_approval_in_the_form_of_another_release_is_given_again(approvals, propose, joined):
    """It had no reader before version 0.2. Its signature is this site's own, so nobody has altered it."""
    book, identity = approvals(), joined.identity("st-anna")
    decision = book.decide(book.open(propose()), accept=True, by="DPO").decision.to_value()
    del decision["reader"]
    body = encode(decision)
    (joined.approvals / "icu-1.decision").write_bytes(Envelope(body, identity.sign("decision", body)).to_bytes())
    with raises("FW-VERSION-306") as caught:
        book.require("icu-1")
    assert caught.value.exit_code == 12
    book.decide(book.open(propose()), accept=True, by="DPO")
    assert book.require("icu-1")


@pytest.mark.parametrize("file", ["icu-1.decision", "icu-1.plan"])
@pytest.mark.attack("local user", "alters or exchanges approvals")
def test_an_altered_or_exchanged_file_is_no_approval(approvals, propose, joined, file):
    book = approvals()
    book.decide(book.open(propose()), accept=True, by="DPO")
    book.decide(book.open(propose("icu-2", name="two")), accept=True, by="DPO")
    (joined.approvals / file).write_bytes((joined.approvals / file.replace("icu-1", "icu-2")).read_bytes())
    with raises("FW-INTEGRITY-302"):
        book.require("icu-1")
    (joined.approvals / file).write_bytes(b"\xa0")
    with raises("FW-INTEGRITY-302", "FW-AUTH-304"):
        book.require("icu-1")
    assert any(isinstance(known, FedwardError) for known in book.all())


@pytest.mark.attack("stranger", "signs a plan")
def test_only_plans_of_the_pinned_coordinator_and_federation(approvals, propose):
    stranger = Identity.from_seed("coordinator", os.urandom(32))
    with raises("FW-AUTH-304"):
        approvals().open(propose(signer=stranger))
    with raises("FW-CONFIG-302"):
        approvals().open(propose(federation="other"))


def test_a_plan_pins_the_code_of_its_own_models_family(approvals, propose):
    verified = approvals().open(propose())
    check_family(verified, "bert")
    with raises("FW-VERSION-302", match="bert.*roberta"):
        check_family(verified, "roberta")


def weaker(**privacy):
    base = {"noise_multiplier": 4.0, "evaluation_noise_multiplier": 20.0, "release_noise_multiplier": 40.0}
    return Plan(name="icu", base_model_sha256="ab" * 32, privacy={**base, **privacy})


@pytest.mark.parametrize(
    ("policy", "proposal", "code"),
    [
        ({"allowed_base_models": []}, {}, "FW-POLICY-302"),
        ({"max_epsilon_per_run": 0.5}, {}, "FW-POLICY-304"),
        ({}, {"plan": weaker(noise_multiplier=0.4)}, "FW-POLICY-304"),
        ({"max_epsilon_everybody": 0.5}, {}, "FW-POLICY-304"),
        ({"max_epsilon_everybody": 5.0}, {"plan": weaker(statistics_noise="shared")}, "FW-POLICY-304"),
        ({"delta": 1e-9}, {}, "FW-POLICY-305"),
        ({}, {"plan": weaker(private=False)}, "FW-POLICY-303"),
        ({}, {"plan": weaker(unsafe_exact_evaluation=True)}, "FW-POLICY-303"),
        ({"max_plan_days": 7}, {}, "FW-POLICY-301"),
        ({}, {"days": -1}, "FW-POLICY-301"),
        ({}, {"code": b"x" * 32}, "FW-VERSION-302"),
        ({}, {"plan": weaker(unit="question")}, "FW-DATA-031"),
    ],
)
@pytest.mark.attack("coordinator", "asks for more than the site allows")
def test_a_plan_beyond_the_sites_limits_cannot_be_accepted(approvals, propose, policy, proposal, code):
    book, plan = approvals(**policy), propose(**proposal)
    with raises(code) as caught:
        book.decide(book.open(plan), accept=True, by="DPO")
    assert caught.value.exit_code in (4, 5, 12)
    assert book.all() == []
    assert not book.decide(book.open(plan), accept=False, by="DPO").accepted, "to deny it is always possible"


@pytest.mark.attack("coordinator", "claims a small epsilon")
def test_the_epsilon_a_plan_claims_is_not_believed():
    claimed = weaker(noise_multiplier=0.4, epsilon=0.1)
    assert run_epsilon(claimed, 1e-5) > 8
    assert run_epsilon(weaker(private=False), 1e-5) == float("inf")


def test_both_prices_and_both_limits_are_shown(configure, propose, ca):
    shared = open_proposal(propose(plan=weaker(statistics_noise="shared")).read_bytes(), ca.identity.public)
    own = open_proposal(propose(plan=weaker()).read_bytes(), ca.identity.public)
    costs = run_epsilon(own.plan, 1e-5)
    assert run_epsilon_everybody(own.plan, 1e-5, 0) == costs == run_epsilon(shared.plan, 1e-5)
    assert run_epsilon_everybody(shared.plan, 1e-5, 3) > costs
    assert run_epsilon_everybody(shared.plan, 1e-5, 0) == run_epsilon_everybody(weaker(private=False), 1e-5, 3)

    def told(verified, spent, **policy):
        (lines,) = [
            dict(lines)
            for title, lines in describe_plan(
                verified, configure(**policy), ca.identity.public, spent=spent, found=None
            )
            if title == "What it costs in privacy"
        ]
        return lines

    lines = told(own, Spent(1.0, 1.0))
    assert "sets no limit" in lines["everybody"] and "adds all of the noise itself" in lines["noise"]
    assert "together" not in lines["so far"]
    lines = told(shared, Spent(1.0, 2.5, shares=3), max_epsilon_everybody=7.5)
    assert "allows 7.5" in lines["everybody"] and "of statistics each hospital adds a share" in lines["noise"]
    assert "everybody together 2.500" in lines["so far"]
    assert "not known" in told(shared, Spent())["everybody"]


def test_units_and_cohort_are_the_sites_own_limits(configure):
    policy = configure(min_units=50, min_cohort=4).policy
    train = [Example(f"p{number % 50}", "", "age 70s", number % 2) for number in range(60)]
    check_size(train, policy, "patient")
    check_cohort(4, policy)
    with raises("FW-POLICY-306") as caught:
        check_size([example for example in train if example.unit != "p7"], policy, "patient")
    assert "49" not in caught.value.message
    with raises("FW-POLICY-307"):
        check_cohort(3, policy)


def test_a_plan_is_described_for_people(configure, propose, ca):
    verified = open_proposal(propose().read_bytes(), ca.identity.public)
    sections = describe_plan(verified, configure(), ca.identity.public, spent=Spent(1.25, 1.25), found=None)
    text = "\n".join(f"{label}: {words}" for _, lines in sections for label, words in lines)
    epsilon = math.ceil(1000 * run_epsilon(verified.plan, 1e-5)) / 1000
    for words in (
        "icu-1",
        "dies in hospital",
        f"epsilon {epsilon:.3f}",
        "epsilon 1.250 of 9",
        "add-or-remove-one",
        f"core: {short(core_hash())}, pinned by the roster",
        f"plan's code: {short(verified.proposal.terms.code_hash)}, pinned by the plan",
        f"reader: {short(reader_hash('mimic-iii'))}, pinned by this hospital's approval",
    ):
        assert words in text
    open_plan = open_proposal(propose(plan=weaker(private=False)).read_bytes(), ca.identity.public)
    assert "NONE" in str(describe_plan(open_plan, configure(), ca.identity.public, spent=Spent(), found=None))
    assert "where it starts" not in text
    started = weaker().model_copy(update={"adapter": AdapterPlan(start="public")})
    opened = open_proposal(propose(plan=started).read_bytes(), ca.identity.public)
    told = describe_plan(opened, configure(), ca.identity.public, spent=Spent(), found=None)
    assert "from public knowledge" in str(told)


@pytest.fixture
def mapped(raw, joined, at, tmp_path):
    """A site whose tables are read through a mapping file, and that file."""
    mapping = tmp_path / "mapping.toml"
    mapping.write_text('[admissions]\nfile = "stays.csv"\n', encoding="utf-8")
    raw["data"]["icu"] |= {"format": "mapped", "mapping": str(mapping)}
    config = parse(raw, ClientConfig, source="test")
    return Approvals(config, joined, joined.identity("st-anna"), clock=lambda: at.now), mapping


def test_an_approval_is_of_the_mapping_file_that_was_there(mapped, propose):
    book, mapping = mapped
    book.decide(book.open(propose()), accept=True, by="DPO")
    assert book.require("icu-1")
    before = mapping.read_bytes()
    mapping.write_bytes(before + b"# a comment\n")
    with raises("FW-VERSION-305", match="mapping file"):  # within the same daemon
        book.require("icu-1")
    mapping.write_bytes(before)
    assert book.require("icu-1"), "the file of the approval is back"
    mapping.write_bytes(before + b'admission = "case"\n')
    book.decide(book.open(propose()), accept=True, by="DPO")
    assert book.require("icu-1"), "approved again"
    mapping.unlink()
    with raises("FW-DATA-072"):
        book.require("icu-1")


def test_the_mapping_file_of_another_format_is_in_no_approval(approvals, propose, tmp_path):
    book = approvals()
    book.decide(book.open(propose()), accept=True, by="DPO")
    (tmp_path / "state" / "data").mkdir(exist_ok=True)
    (tmp_path / "state" / "data" / "mapping.toml").write_text("x = 1\n", encoding="utf-8")
    assert book.require("icu-1")


def test_the_mapping_file_of_the_folder_is_the_one_without_a_key(raw):
    raw["data"]["icu"] |= {"format": "mapped"}
    tables = parse(raw, ClientConfig, source="test").tables
    assert tables.mapped_by == Path(tables.path) / "mapping.toml"
    raw["data"]["icu"] |= {"format": "omop", "mapping": "/srv/mapping.toml"}
    with pytest.raises(FedwardError, match="mapped"):
        parse(raw, ClientConfig, source="test")


def test_a_person_reads_of_opt_outs_records_and_mapping(mapped, propose, ca, raw):
    book, mapping = mapped
    raw["data"]["icu"]["exclude"] = "/srv/optout.txt"
    privacy = {"noise_multiplier": 4.0, "evaluation_noise_multiplier": 20.0, "release_noise_multiplier": 40.0}
    plan = Plan(name="icu", base_model_sha256="ab" * 32, privacy={**privacy, "records_per_unit": 4})
    verified = book.open(propose(plan=plan))
    sections = describe_plan(
        verified, parse(raw, ClientConfig, source="test"), coordinator=ca.identity.public, spent=Spent(), found=None
    )
    lines = [f"{name}: {words}" for _, section in sections for name, words in section]
    assert "opted out: whom /srv/optout.txt lists is never read" in lines
    assert "records: at most 4 of one patient in each step" in lines
    assert any(line.startswith("reader") and str(mapping) in line for line in lines)


def roster_of(coordinator, site, *, min_cohort=3):
    """A roster of ``coordinator`` that ``site`` and two others have approved."""
    others = [Identity.from_seed(name, name.encode() * 4) for name in ("st-berta", "st-clara")]
    members = tuple(Member(one.name, one.public) for one in (site, *others))
    policy = RunPolicy(min_cohort, 30, False)
    pins = {"base_model_hash": b"b" * 32, "adapter_layout_hash": b"l" * 32, "code_hash": b"c" * 32}
    signed = publish(Roster("demo", coordinator.public, members, 1, policy, **pins), coordinator)
    return approve(signed, site)


@pytest.mark.attack("another coordinator", "has its roster approved")
def test_a_roster_of_another_coordinator_is_neither_put_in_force_nor_used(configure, joined, ca):
    """Broken: whoever gets a file approved here runs rounds with this hospital, past the coordinator it has joined."""
    config, site = configure(), joined.identity("st-anna")
    put_in_force(roster_of(ca.identity, site), config)
    assert approved_roster(joined, config, site)[1].roster.federation == "demo"
    other = roster_of(Identity.from_seed("coordinator", os.urandom(32)), site)
    with raises("FW-AUTH-305"):
        put_in_force(other, config)
    joined.roster.write_bytes(other)
    with raises("FW-AUTH-305"):
        approved_roster(joined, config, site)


def test_a_roster_that_this_site_has_not_approved_is_not_put_in_force(configure, joined, ca):
    config, site = configure(), joined.identity("st-anna")
    unsigned = SignedRoster.from_bytes(roster_of(ca.identity, site))
    with raises("FW-SECAGG-011"):
        put_in_force(replace(unsigned, approvals={}).to_bytes(), config)
    assert not joined.roster.exists()
