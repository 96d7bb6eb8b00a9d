"""The runner of the mutants, and that every listed mutant still fits the code and the tests it names."""

import ast
import subprocess

import pytest

from scripts import mutants
from scripts.mutants import Copy, Mutant, MutantError, Verdict, chosen_tenth, judge, read_lists, reported_name, table

GUARD = "def allowed(age):\n    if age < 18:\n        raise ValueError\n    return True\n"
TESTS = """import pytest
from guard import allowed

def test_refuses():
    with pytest.raises(ValueError):
        allowed(17)

def test_says_nothing():
    assert allowed(30)

@pytest.fixture
def broken():
    raise RuntimeError

def test_never_runs(broken):
    assert allowed(30)
"""


def mutant(**changes):
    fields = {
        "name": "any-age",
        "file": "guard.py",
        "line": "if age < 18:",
        "becomes": "if age < 0:",
        "tests": ("test_guard.py::test_refuses",),
        "means": "Children are let in.",
    }
    return Mutant(**{**fields, **changes})


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A copy of a tiny tree of one guard and its tests."""
    tree, folder = tmp_path / "tree", tmp_path / "copy"
    tree.mkdir()
    (tree / "guard.py").write_text(GUARD)
    (tree / "test_guard.py").write_text(TESTS)
    monkeypatch.setattr(mutants, "ROOT", tree)
    monkeypatch.setattr(mutants, "_files", lambda: ["guard.py", "test_guard.py"])
    return Copy(folder)


def test_a_break_that_its_test_notices_is_killed_and_taken_back(copy):
    mutants.sound_tests(copy, [mutant()])
    assert judge(copy, mutant()).verdict is Verdict.KILLED
    assert (copy.folder / "guard.py").read_text() == GUARD
    assert judge(copy, mutant(tests=("test_guard.py::test_says_nothing",))).verdict is Verdict.SURVIVED


def test_one_of_two_tests_that_does_not_fail_lets_it_survive(copy):
    both = ("test_guard.py::test_refuses", "test_guard.py::test_says_nothing")
    outcome = judge(copy, mutant(tests=both))
    assert outcome.verdict is Verdict.SURVIVED
    assert outcome.reason == "did not fail: test_guard.py::test_says_nothing"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"line": "if age < 21:"}, "its line occurs 0 times"),
        ({"becomes": "if age < 18:"}, "changes nothing"),
        ({"becomes": "if age <"}, "not Python"),
        ({"file": "elsewhere.py"}, "no file"),
        ({"becomes": "if age < years:"}, "NameError alone"),
        ({"line": "def allowed(age):", "becomes": "def permitted(age):"}, "pytest ended with 4"),
        ({"tests": ("test_guard.py::test_gone",)}, "pytest ended with 4"),
        ({"tests": ("test_guard.py::test_never_runs",)}, "did not get to its body"),
    ],
)
def test_what_says_nothing_about_the_guard_kills_nothing(copy, changes, reason):
    outcome = judge(copy, mutant(**changes))
    assert outcome.verdict is Verdict.ERROR
    assert reason in outcome.reason


def test_tests_that_take_too_long_kill_nothing(copy):
    outcome = judge(copy, mutant(), seconds=0.001)
    assert (outcome.verdict, outcome.reason) == (Verdict.ERROR, "its tests took longer than 0 s")


def test_a_test_that_fails_on_sound_code_proves_nothing(copy):
    with pytest.raises(MutantError, match="test_never_runs"):
        mutants.sound_tests(copy, [mutant(tests=("test_guard.py::test_never_runs",))])


def test_a_name_is_that_of_pytests_report():
    assert reported_name("tests/a/test_b.py::test_c[x-y]") == "tests.a.test_b::test_c"
    assert reported_name("tests/a/test_b.py::TestC::test_d") == "tests.a.test_b.TestC::test_d"


def test_the_table_counts_by_list():
    one, other = (mutants.Outcome(mutant(area=area), Verdict.KILLED) for area in ("noise", "ledger"))
    lines = table([one, other, mutants.Outcome(mutant(area="noise"), Verdict.SURVIVED)]).splitlines()
    assert [line.split() for line in lines[1:]] == [
        ["ledger", "1", "1", "0", "0"],
        ["noise", "2", "1", "1", "0"],
        ["all", "3", "2", "1", "0"],
    ]


def test_ten_commits_in_a_row_look_at_every_mutant_once():
    listed = read_lists()
    seen = [one for commits in range(40, 50) for one in chosen_tenth(listed, commits)]
    assert sorted(one.name for one in seen) == sorted(one.name for one in listed)


def unfit(one):
    """Why a listed mutant cannot be judged; empty if it can."""
    try:
        one.applied((mutants.ROOT / one.file).read_text())
    except (OSError, MutantError) as error:
        return f"{one.name}: {error}"
    for node in one.tests:
        path, *names = node.partition("[")[0].split("::")
        body = ast.parse((mutants.ROOT / path).read_text()).body
        if not names or names[0] not in {getattr(item, "name", "") for item in body}:
            return f"{one.name}: there is no {node}"
    return ""


def test_every_mutant_fits_the_code_and_names_tests_that_there_are():
    """A guard that moves takes its mutants along: put the new line into the list, or say what guards instead."""
    assert [words for one in read_lists() if (words := unfit(one))] == []


def test_the_files_of_a_copy_are_those_of_the_working_tree():
    try:
        listed = mutants._files()
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this is no checkout")
    assert {"scripts/mutants.py", "privacy/noise.py", "fedward/privacy"} <= set(listed)
