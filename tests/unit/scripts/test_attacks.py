"""The table of attacks in the threat model is the one that the tests' marks give."""

from fedward.errors import table as errors
from scripts import attacks


def test_the_table_in_the_threat_model_is_up_to_date():
    """Otherwise: python -m scripts.attacks --write"""
    document = attacks.DOCUMENT.read_text()
    assert attacks.inserted(document, attacks.table(attacks.gather())) == document


def test_every_attack_has_an_attacker_an_aim_and_codes_that_exist():
    found = attacks.gather()
    assert len(found) > 90
    assert len({one.test for one in found}) == len(found)
    assert all(one.attacker and one.tries and "|" not in one.tries for one in found)
    assert {code for one in found for code in one.codes} <= set(errors())


def test_marks_are_read_without_importing(tmp_path):
    body = (
        'import pytest\n\n\n@pytest.mark.attack("hospital", "lies")\n@pytest.mark.slow\ndef test_it():\n'
        '    assert "FW-SECAGG-001"\n    assert "FW-SECAGG-001"\n\n\ndef test_other():\n    pass\n'
    )
    (tmp_path / "test_one.py").write_text(body)
    assert attacks.gather(tmp_path) == [attacks.Attack("hospital", "lies", "test_one.py::test_it", ("FW-SECAGG-001",))]
