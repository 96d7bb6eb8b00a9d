import json

import numpy as np
import pytest

from fedward.adapter import AdapterLayout, adapter_hash
from fedward.agreements import code
from fedward.agreements.code import plan_code_hash
from fedward.agreements.proposal import PlanTerms, write_terms
from fedward.config import load_toml, parse, to_toml
from fedward.errors import AuthenticationError, ConfigError
from fedward.plan import AdapterPlan, Plan
from fedward.privacy.secagg.roster import approve, verify_roster
from fedward.server.deployment.channel import CommandRefusedError, CommandServer, command
from fedward.server.deployment.records import Runs, check_folder, missing_of, publish_roster, read_signed, sign_folder
from fedward.server.job_files import FederationJob, RunEnd, write_vector
from tests.codes import raises

PLAN = Plan(name="icu", base_model_sha256="ab" * 32)


@pytest.fixture
def plan(tmp_path):
    return write_plan(tmp_path / "plan", PLAN)


def write_plan(folder, plan):
    folder.mkdir()
    layout = AdapterLayout.of([("head.weight", (1, 4))])
    start = np.arange(4, dtype=np.float32)
    write_vector(start, layout, folder / "start.safetensors")
    (folder / "plan.toml").write_text(to_toml(plan.model_dump()), encoding="utf-8")
    terms = PlanTerms(
        plan=plan.model_dump_json().encode(),
        plan_hash=plan.hash(),
        base_model_hash=b"\xab" * 32,
        adapter_layout_hash=layout.hash(),
        initial_adapter_hash=adapter_hash(start, layout),
        family="bert",
        code_hash=plan_code_hash(plan, "bert"),
        parameters=4,
    )
    write_terms(terms, folder)
    return folder


@pytest.fixture
def members(coordinator):
    found = []
    for name in ("st-anna", "st-bede", "st-clare"):
        applicant = coordinator.applicant(name)
        coordinator.accept(applicant.request(coordinator.sites.invite(name, hours=1)))
        found.append(applicant.identity)
    return found


@pytest.fixture
def runs(coordinator):
    return Runs(coordinator.folders, clock=lambda: 2000.0)


def sign(coordinator, plan, run="icu-1"):
    return sign_folder(plan, run=run, federation="demo", identity=coordinator.identity, days=1, now=2000.0)


def submit(coordinator, runs, plan, members, roster=None):
    if roster is None:
        roster = publish_roster(coordinator.sites.all(), read(coordinator, plan), coordinator.identity)
        for member in members:
            roster = approve(roster, member)
    return runs.submit(
        plan, roster, coordinator.sites.all(), coordinator=coordinator.identity.public, discover_seconds=1.0
    )


def read(coordinator, plan):
    return read_signed(plan, coordinator.identity.public)


def test_a_plan_is_signed_as_it_lies_in_its_folder(coordinator, plan):
    with raises("FW-CONFIG-311"):
        read(coordinator, plan)
    assert sign(coordinator, plan).hash == read(coordinator, plan).hash
    assert check_folder(plan)["parameters"] == 4
    for run in ("", "../x", "A"):
        with raises("FW-CONFIG-312"):
            sign(coordinator, plan, run)


def test_an_edited_plan_folder_is_not_signed(coordinator, plan):
    text = (plan / "plan.toml").read_text()
    (plan / "plan.toml").write_text(text.replace('name = "icu"', 'name = "ico"'))
    with raises("FW-INTEGRITY-312"):
        sign(coordinator, plan)
    (plan / "plan.toml").write_text(text)
    layout = AdapterLayout.of([("head.weight", (1, 4))])
    write_vector(np.zeros(4, np.float32), layout, plan / "start.safetensors")
    with raises("FW-INTEGRITY-312") as caught:
        check_folder(plan)
    assert caught.value.exit_code == 11


def test_a_submitted_run_holds_all_its_job_needs(coordinator, plan, members, runs):
    sign(coordinator, plan)
    run = submit(coordinator, runs, plan, members)
    assert (run.state, run.sites) == ("queued", ["st-anna", "st-bede", "st-clare"])
    job = parse(json.loads((runs.folder("icu-1") / "job.json").read_bytes()), FederationJob, source="job")
    assert load_toml(runs.folder("icu-1") / "plan.toml", Plan).hash() == PLAN.hash()
    assert verify_roster((runs.folder("icu-1") / "roster.cbor").read_bytes()).approved == set(run.sites)
    assert job.run == "icu-1"
    with raises("FW-CONFIG-312"):
        submit(coordinator, runs, plan, members)


@pytest.mark.parametrize("code", ["FW-CONFIG-212", "FW-INTEGRITY-312"])
def test_a_run_does_not_start_from_another_adapter_or_another_kind_of_file(coordinator, plan, members, runs, code):
    sign(coordinator, plan)
    start = plan / "start.safetensors"
    if code == "FW-CONFIG-212":
        start.write_bytes(b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94.")  # how a pickle begins
    else:
        write_vector(np.ones(4, np.float32), AdapterLayout.of([("head.weight", (1, 4))]), start)
    with raises(code):
        submit(coordinator, runs, plan, members)
    assert runs.all() == []


def test_a_roster_counts_only_when_all_have_approved_it(coordinator, plan, members, runs):
    signed = sign(coordinator, plan)
    roster = publish_roster(coordinator.sites.all(), signed, coordinator.identity)
    for member in members[:2]:
        roster = approve(roster, member)
    with raises("FW-POLICY-312", match="st-clare") as caught:
        submit(coordinator, runs, plan, members, roster)
    assert caught.value.exit_code == 5
    assert runs.all() == []


def test_a_plan_for_hospitals_that_are_not_there_gets_no_roster_and_no_run(coordinator, plan, members, runs, tmp_path):
    signed = sign(coordinator, plan)
    roster = publish_roster(coordinator.sites.all(), signed, coordinator.identity)
    for member in members:
        roster = approve(roster, member)
    other = write_plan(tmp_path / "other", PLAN.model_copy(update={"adapter": AdapterPlan(ranks={"st-ana": 4})}))
    misspelt = sign(coordinator, other, "icu-2")
    with raises("FW-STRATEGY-019", match="st-ana"):
        publish_roster(coordinator.sites.all(), misspelt, coordinator.identity)
    with raises("FW-STRATEGY-019", match="st-ana"):
        submit(coordinator, runs, other, members, roster)
    assert runs.all() == []


def test_a_plan_of_another_release_is_neither_signed_nor_run(coordinator, plan, members, runs, monkeypatch):
    """Hospitals would be charged for a first round and then find the coordinator's update wrong."""
    signed = sign(coordinator, plan)
    roster = publish_roster(coordinator.sites.all(), signed, coordinator.identity)
    for member in members:
        roster = approve(roster, member)
    for part, refusal in (("core_hash", "FW-VERSION-303"), ("plan_code_hash", "FW-VERSION-304")):
        with monkeypatch.context() as patch:
            patch.setattr(code, part, lambda *names: b"c" * 32)
            with raises(refusal) as caught:
                submit(coordinator, runs, plan, members, roster)
            assert caught.value.exit_code == 12
    assert runs.all() == []
    monkeypatch.setattr(code, "plan_code_hash", lambda *names: b"c" * 32)
    with raises("FW-VERSION-304"):
        sign(coordinator, plan, "icu-2")


def test_a_revoked_member_and_other_pins_need_a_new_roster(coordinator, plan, members, runs):
    signed = sign(coordinator, plan)
    roster = publish_roster(coordinator.sites.all(), signed, coordinator.identity)
    for member in members:
        roster = approve(roster, member)
    coordinator.sites.revoke("st-bede")
    with raises("FW-POLICY-312", match="st-bede"):
        submit(coordinator, runs, plan, members, roster)
    with raises("FW-POLICY-314", match="there are 2"):
        publish_roster(coordinator.sites.all(), signed, coordinator.identity)


def test_no_run_stays_running_without_a_process(coordinator, plan, members, runs):
    sign(coordinator, plan)
    run = runs.started(submit(coordinator, runs, plan, members), 7)
    assert runs.next_open() == run
    run = runs.started(runs.queued_again(run), 7)
    assert run.restarts == 0, "a stop by the operator is no failure"
    again = runs.lost(run, at_once=1)
    assert (again.state, again.flower_run, again.restarts) == ("queued", None, 1)
    waits = runs.lost(runs.started(again, 8), at_once=1)
    assert (waits.state, waits.restarts, waits.code) == ("waiting", 2, "FW-RUN-213")
    assert runs.next_open() == waits


def test_pauses_grow_to_a_minute_until_a_round_is_finished(coordinator, plan, members, runs):
    sign(coordinator, plan)
    run = submit(coordinator, runs, plan, members)
    pauses = []
    for _ in range(8):
        run = runs.waits(runs.started(run, 7), "FW-RUN-002")
        pauses.append(run.again - 2000)
    assert pauses == [2, 4, 8, 16, 32, 60, 60, 60]
    (runs.folder("icu-1") / "progress.json").write_text('{"round": 1, "rounds": 4, "survivors": []}')
    assert runs.waits(runs.started(run, 8), "FW-RUN-002").again == 2002
    assert runs.lost(runs.started(run, 9), at_once=1).state == "queued"


def test_a_run_says_for_whom_it_waits_and_ends_with_its_plan(coordinator, plan, members, runs):
    sign(coordinator, plan)
    run = submit(coordinator, runs, plan, members)
    absent = runs.folder("icu-1") / "absent.json"
    absent.write_text('{"st-bede": "FW-NET-212", "stranger": "FW-NET-212"}')
    waits = runs.waits(runs.started(run, 7), "FW-RUN-002")
    assert (waits.state, waits.code, waits.waits_for) == ("waiting", "FW-RUN-002", {"st-bede": "FW-NET-212"})
    assert missing_of(waits) == "st-bede (FW-NET-212)"
    assert waits.open and not runs.due(waits) and not runs.expired(waits)
    later = Runs(coordinator.folders, clock=lambda: 2002.0)
    assert later.due(waits) and runs.due(runs.resumed(waits))
    assert Runs(coordinator.folders, clock=lambda: 2001.0 + 86_400).expired(waits)
    absent.write_text("[")
    assert missing_of(runs.waits(waits, "FW-RUN-002")) == "what it lacks"


def test_runs_end_and_the_next_one_comes(coordinator, plan, members, runs):
    sign(coordinator, plan)
    first = submit(coordinator, runs, plan, members)
    sign(coordinator, plan, "icu-2")
    submit(coordinator, runs, plan, members)
    assert runs.ended(first, RunEnd(10, "FW-RUN-002")).state == "failed"
    assert runs.next_open().name == "icu-2"
    assert runs.aborted(runs.get("icu-2")).exit_status == 14
    assert runs.next_open() is None


def test_a_paused_run_keeps_its_place_until_it_is_resumed_or_aborted(coordinator, plan, members, runs):
    sign(coordinator, plan)
    first = runs.started(submit(coordinator, runs, plan, members), 7)
    sign(coordinator, plan, "icu-2")
    submit(coordinator, runs, plan, members)
    paused = runs.paused(first)
    assert (paused.state, paused.flower_run, paused.open) == ("paused", None, True)
    assert runs.next_open().name == "icu-1", "the second run does not overtake it"
    assert runs.resumed(paused).state == "queued"
    assert runs.resumed(runs.started(runs.get("icu-1"), 8)).state == "running"
    ended = runs.ended(runs.get("icu-1"), RunEnd(0, ""))
    for change in (runs.paused, runs.resumed):
        with raises("FW-POLICY-313", match="completed") as caught:
            change(ended)
        assert caught.value.exit_code == 5
    assert runs.next_open().name == "icu-2"


@pytest.mark.parametrize("name", ["../sites", "..", "", "icu-1/../icu-1", "ICU"])
def test_a_name_that_is_a_path_is_no_run_and_no_site(coordinator, runs, name):
    with raises("FW-CONFIG-312"):
        runs.get(name)
    with raises("FW-POLICY-311"):
        coordinator.sites.get(name)


def test_commands_need_the_token_of_the_running_server(tmp_path):
    def fail(request):
        raise ConfigError("There is no such run.", code="FW-CONFIG-312")

    path = tmp_path / "control.json"
    with CommandServer(path, {"echo": lambda request: {"said": request["word"]}, "fail": fail}):
        assert path.stat().st_mode & 0o077 == 0
        assert command(path, "echo", word="x") == {"said": "x"}
        with pytest.raises(CommandRefusedError):
            command(path, "echo")
        with pytest.raises(CommandRefusedError):
            command(path, "shutdown")
        with raises("FW-SERVER-001", match="FW-CONFIG-312"):
            command(path, "fail")
        door = json.loads(path.read_bytes())
        path.write_text(json.dumps({**door, "token": "0" * 64}), encoding="utf-8")
        with pytest.raises(AuthenticationError):
            command(path, "echo", word="x")
    assert not path.exists()
