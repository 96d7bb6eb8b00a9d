"""Every error code in the package has one row in errors.toml, and every row one place that raises it as written."""

import ast
from pathlib import Path

import pytest

import fedward
from fedward.errors import BudgetError, ConfigError, DataError, FedwardError, table

ROOT = Path(fedward.__file__).parent
FOLDERS = [each.resolve() for each in ROOT.iterdir() if each.is_dir()]  # the role folders are links in a checkout
SOURCES = sorted([*ROOT.glob("*.py"), *(path for folder in FOLDERS for path in folder.rglob("*.py"))])


def name_of(node):
    return node.id if isinstance(node, ast.Name) else getattr(node, "attr", None)


@pytest.fixture(scope="module")
def nodes():
    return [node for path in SOURCES for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))]


@pytest.fixture(scope="module")
def classes(nodes):
    """The code that each class of the error tree gives itself, by the class's name."""
    bases = {n.name: {name_of(base) for base in n.bases} for n in nodes if isinstance(n, ast.ClassDef)}
    known = {"FedwardError"}
    while more := {name for name, above in bases.items() if above & known} - known:
        known |= more
    found = {}
    for node in nodes:
        if isinstance(node, ast.ClassDef) and node.name in known:
            said = [line for line in node.body if isinstance(line, ast.Assign | ast.AnnAssign) and line.value]
            if node.name == "FedwardError":  # whose subclasses name their code in the class statement
                (line,) = said
                assert name_of(line.target) == "code"
                found[node.name] = line.value.value
            else:
                (keyword,) = node.keywords
                assert (keyword.arg, said) == ("code", []), "a class says its code, no more"
                found[node.name] = keyword.value.value
    assert set(found) == known, "a class of the error tree without a code"
    return found


def test_the_table_is_sorted():
    codes = list(table())
    assert codes == sorted(codes)


def test_every_class_has_a_row_of_its_own(classes):
    assert len(set(classes.values())) == len(classes)
    assert {code: name for name, code in classes.items()} == {
        code: row.family for code, row in table().items() if classes.get(row.family) == code
    }


def test_every_error_is_raised_as_the_class_that_its_row_names(nodes, classes):
    calls = [node for node in nodes if isinstance(node, ast.Call) and name_of(node.func) in classes]
    assert len(calls) > 300
    for call in calls:
        given = [keyword.value for keyword in call.keywords if keyword.arg == "code"]
        if not given or isinstance(given[0], ast.Constant):
            code = given[0].value if given else classes[name_of(call.func)]
            assert code in table(), f"{code} is not in errors.toml"
            assert table()[code].family == name_of(call.func), code


def test_every_code_is_in_the_table_and_every_row_is_used(nodes):
    literals = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    assert {text for text in literals if text.startswith("FW-") and " " not in text} == set(table())


def test_an_error_takes_exit_status_and_fix_from_its_row_and_its_own_fix_first():
    error = DataError("No tables.", code="FW-DATA-009")
    assert (error.code, error.exit_code, error.fix) == ("FW-DATA-009", 4, table()["FW-DATA-009"].fix)
    assert BudgetError("Spent.").exit_code == BudgetError.row().exit_code == 6
    assert DataError("No tables.", fix="Add one.").fix == "Add one."


def test_an_unknown_code_does_not_hide_the_failure():
    error = ConfigError("Wrong.", code="FW-NOPE-999")
    assert (error.code, error.exit_code, error.fix) == ("FW-NOPE-999", 3, ConfigError.row().fix)
    assert isinstance(error, FedwardError)
