"""audit.json, the terminal and the report say the same, and say it when the certificate is refuted."""

import io
import json
import subprocess
import sys
from datetime import UTC, datetime

import pytest
from rich.console import Console

from fedward.simulations.audit.document import AUDIT_FILE, AuditDocument, print_audit, write_audit
from fedward.simulations.report import render


def document(**canaries) -> AuditDocument:
    low = [
        {"at_most": rate, "false_positive_rate": 0.0, "true_positive_rate": 0.0042, "interval": (0.001, 0.0123)}
        for rate in (0.001, 0.01)
    ]
    attack = {"attack": "loss threshold", "auc": 0.512, "auc_interval": (0.494, 0.530), "low": tuple(map(dict, low))}
    found = {
        "hospital": "foxglove",
        "canaries": 100,
        "included": 52,
        "guesses": 100,
        "correct": 61,
        "epsilon_lower": 0.0921,
        "epsilon_reach": 3.49,
        "delta": 1e-5,
        "confidence": 0.95,
    }
    return AuditDocument.model_validate(
        {
            "fedward_version": "0.1.0",
            "created": datetime(2026, 11, 23, tzinfo=UTC),
            "adapter_sha256": "3c" * 32,
            "epsilon_certified": 7.998,
            "delta": 1e-5,
            "canaries": found | canaries,
            "membership": {"members": 2544, "others": 1616, "reference_models": 4, "attacks": (attack,)},
            "seconds": 60.0,
        }
    )


def printed(found: AuditDocument) -> str:
    stream = io.StringIO()
    print_audit(found, Console(file=stream, width=160))
    return stream.getvalue()


def test_the_file_reads_back_as_what_was_found(tmp_path):
    path = write_audit(document(), tmp_path)
    assert path == tmp_path / AUDIT_FILE
    assert AuditDocument.model_validate_json(path.read_bytes()) == document()
    assert json.loads(path.read_text(encoding="utf-8"))["canaries"]["epsilon_lower"] == 0.0921


def test_the_bound_stands_beside_its_reach_and_the_certificate():
    text = printed(document())
    assert "epsilon at least   0.09 at delta 1e-5 (95 % confidence)" in text
    assert "could have shown   3.49" in text
    assert "certified          8.00" in text
    assert "0.512 (0.494–0.530)" in text
    assert "0.42 % (0.10 % to 1.23 %)" in text
    assert "REFUTED" not in text


def test_a_bound_above_the_certificate_refutes_it():
    found = document(epsilon_lower=9.0)
    assert found.refutes
    assert not document(epsilon_lower=7.998).refutes
    assert "CERTIFICATE REFUTED" in printed(found)


def test_the_terminal_needs_no_torch():
    code = "import sys; import fedward.simulations.report; print('torch' in sys.modules)"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("epsilon_lower", [0.0921, 9.0])
def test_the_report_shows_it(epsilon_lower, result):
    plain, page = render(result), render(result, audit=document(epsilon_lower=epsilon_lower))
    assert "<h2>Audit" not in plain
    for text in ("<h2>Audit", "61 of 100 guesses were right", "against 8.00 certified", "3.49", "0.42 %"):
        assert text in page
    assert ("CERTIFICATE REFUTED" in page) == (epsilon_lower == 9.0)
