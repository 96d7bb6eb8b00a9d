"""The unit of privacy in every document: *patient* where the unit is the patient, and nowhere else."""

from __future__ import annotations

import io
import sys
from types import SimpleNamespace

import pytest
from rich.console import Console
from typer.testing import CliRunner

from fedward.cli import client, main
from fedward.client.daemon.approvals import Spent, describe_plan
from fedward.client.daemon.settings import ClientConfig
from fedward.client.models.adapter_model import resolve_run
from fedward.client.models.registry import resolve
from fedward.config import parse
from fedward.plan import Plan
from fedward.privacy.events import Event
from fedward.privacy.ledger import FileStore, Ledger, Population
from fedward.run import Schedule
from fedward.simulations.audit.document import print_audit
from fedward.simulations.report import render
from fedward.simulations.result import RunResult, SecureSum
from fedward.simulations.run import card, certificate
from fedward.simulations.sweep import summary
from fedward.simulations.sweep.play import Cell, Outcome
from fedward.simulations.sweep.summary import summarise
from fedward.simulations.terminal import RunDisplay, print_result
from fedward.units import UNITS
from tests.unit.simulations.audit.test_document import document as audit_document
from tests.unit.simulations.conftest import document

pytestmark = pytest.mark.torch

KINDS_OF_PLAN = {
    "local": {},
    "secure-grad": {"placement": "secure-grad", "parameters": 100, "unsafe_exact_evaluation": True},
    "adaptive": {"clipping": "adaptive"},
    "without": {"private": False},
}
SUM = SecureSum(exact=True, ring_bits=32, threshold=4, colluders=1, cohort=6)


def plan_of(unit: str, kind: str = "local") -> Plan:
    noise = {"noise_multiplier": 3.0, "release_noise_multiplier": 9.0, "evaluation_noise_multiplier": 4.0}
    return Plan.model_validate(
        {
            "name": "run",
            "task": "pubmedqa" if unit == "question" else "mortality",
            "base_model_sha256": "0" * 64,
            "training": {"rounds": 1, "local_steps": 1},
            "privacy": {**noise, "unit": unit, "release_every": 1, **KINDS_OF_PLAN[kind]},
        }
    )


def result_of(unit: str, kind: str = "local") -> RunResult:
    schedule, raw = Schedule.of(plan_of(unit, kind)), document()
    raw["scenario"] |= {"task": schedule.task.name, "outcome": schedule.task.outcome}
    raw["privacy"] = certificate(schedule, private=kind != "without", secure_sum=SUM, shares=3).model_dump()
    if kind == "without":
        raw["non_private_reasons"] = ("Differential privacy was switched off.",)
    return RunResult.model_validate(raw)


def of_certificate(unit, kind):
    return result_of(unit, kind).privacy.model_dump_json()


def of_report(unit, kind):
    return render(result_of(unit, kind), audit=audit_document())


def of_terminal(unit, kind):
    stream = io.StringIO()
    console, result = Console(file=stream, width=100), result_of(unit, kind)
    with RunDisplay("auto", console=console) as display:
        display.start("run", hospitals=6, rounds=1, epsilon=8.0, unit=result.privacy.unit)
    print_result(result, console)
    print_audit(audit_document(), console)
    return stream.getvalue()


def of_card(unit, kind):
    files = resolve("tiny-clinical")
    run = resolve_run(plan_of(unit, kind), files.config())
    facts = SimpleNamespace(
        run=run, scenario=SimpleNamespace(strategy="ffa"), sites=range(6), files=files, seeded=False
    )
    return card(facts, personal=False)


def of_sweep(unit, kind):
    outcomes = [Outcome(Cell("ffa", None, 8.0, 1), "done", result_of(unit, kind))]
    return summary.render(summarise("run", plan_of(unit).task, outcomes, unit=unit))


def of_approval(unit, kind):
    plan = plan_of(unit, kind)
    terms = SimpleNamespace(parameters=1000, code_hash=b"c", initial_adapter_hash=b"i", family="bert")
    proposal = SimpleNamespace(federation="demo", run="run-1", made=0, expires=86_400, terms=terms)
    config = {
        "site": {"name": "st-anna", "state_dir": "/state"},
        "coordinator": {"url": "https://127.0.0.1:9"},
        "data": {"icu": {"path": "/data", "format": "pubmedqa" if unit == "question" else "mimic-iii"}},
        "policy": {"min_units": 20, "max_epsilon_per_run": 8.0, "max_epsilon_lifetime": 9.0, "allowed_base_models": []},
    }
    verified = SimpleNamespace(plan=plan, proposal=proposal, fingerprint="words")
    sections = describe_plan(
        verified, parse(config, ClientConfig, source="test"), bytes(32), spent=Spent(1.0, 1.0), found=None
    )
    return "\n".join(f"{title}: {label}: {words}" for title, lines in sections for label, words in lines)


@pytest.mark.parametrize("kind", KINDS_OF_PLAN)
@pytest.mark.parametrize("written", [of_certificate, of_report, of_terminal, of_card, of_sweep, of_approval])
def test_a_document_says_patient_for_patients_and_never_for_questions(written, kind):
    of_questions, of_patients = written("question", kind), written("patient", kind)
    assert "patient" not in of_questions.lower()
    says_a_unit = "question" in of_questions.lower() and "patient" in of_patients.lower()
    assert says_a_unit or (kind == "without" and written in (of_card, of_sweep))


def test_the_sentences_about_patients_are_those_of_the_first_release():
    found = certificate(Schedule.of(plan_of("patient")), private=True, secure_sum=SUM, shares=3)
    assert (found.unit, found.sampler) == ("patient", "Poisson over patients")
    assert found.release.statistics == ("mean clipped loss", "number of patients")
    assert (
        "A patient is treated at one participating hospital; for a patient of two hospitals the epsilons add."
        in found.assumptions
    )
    assert "Patient-level epsilon 8.00, delta 1e-05" in of_card("patient", "local")
    assert "epsilon 8.00 per patient" in of_terminal("patient", "local")
    assert "Epsilon 8.00 per patient" in of_sweep("patient", "local")
    approval = of_approval("patient", "local")
    assert "the odds that one given patient took part" in approval
    assert "numbers of one patient" in approval


def test_a_question_is_not_treated():
    found = certificate(Schedule.of(plan_of("question")), private=True, secure_sum=SUM, shares=3)
    assert any(text.startswith("A question is held at one participating hospital") for text in found.assumptions)


@pytest.mark.parametrize("unit", UNITS)
def test_the_ledger_is_shown_with_the_unit_that_it_prices(tmp_path, unit):
    terms = {"site": "anna", "cap_epsilon": 8.0, "delta": 1e-5, "population": Population("salt", 0.4)}
    ledger = Ledger(FileStore(tmp_path / "state"), unit=unit, **terms)
    ledger.reserve(run="run-1", plan_hash=bytes(32), round_number=1, training=[Event("release", 5.0, 1.0, 1)])
    text = CliRunner().invoke(client.app, ["ledger", "show", "--state", str(tmp_path / "state")]).stdout
    who = "who" if unit == "patient" else "that"
    assert f"by the {unit} {who} has spent most" in " ".join(text.split())
    assert ("patient" in text) == (unit == "patient")
    document = CliRunner().invoke(client.app, ["ledger", "show", "--state", str(tmp_path / "state"), "--json"]).stdout
    assert f'"unit": "{unit}"' in document
    assert ("patient" in document) == (unit == "patient")


def test_the_estimate_speaks_of_the_unit_of_the_data(tmp_path, monkeypatch, capsys):
    (tmp_path / "exam.toml").write_text(
        'name = "exam"\ntask = "pubmedqa"\n[data]\nsource = "pubmedqa"\npath = "/exam"\n[training]\nrounds = 1\n'
    )
    monkeypatch.setattr(sys, "argv", ["fedward", "plan", "estimate", str(tmp_path / "exam.toml"), "--no-time"])
    with pytest.raises(SystemExit) as ended:
        main.run()
    text = capsys.readouterr().out
    assert ended.value.code == 0
    assert "question, add-or-remove-one" in text
    assert "patient" not in text
