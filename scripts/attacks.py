"""Table of attacks: what the tests play, gathered from their marks into ``docs/threat-model.md``.

A test that plays an attack carries ``@pytest.mark.attack("who", "what they try")``. The table names who attacks, what
is tried, the codes that the test expects as refusals, and the test. ``python -m scripts.attacks`` prints it, and with
``--write`` puts it into the document; a test compares the two.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "threat-model.md"
BEGIN, END = "<!-- begin: python -m scripts.attacks --write -->", "<!-- end of attacks -->"
_CODE = re.compile(r"FW-[A-Z]+-\d{3}")


@dataclass(frozen=True, order=True)
class Attack:
    """One marked test."""

    attacker: str
    tries: str
    test: str  # file below tests/, and name
    codes: tuple[str, ...]  # refusals that the test expects, in the order of their first mention


def gather(folder: Path = ROOT / "tests") -> list[Attack]:
    """Every marked test, by attacker; nothing is imported."""
    found = []
    for path in sorted(folder.rglob("test_*.py")):
        text = path.read_text()
        if "mark.attack(" not in text:
            continue
        for item in ast.parse(text).body:
            if isinstance(item, ast.FunctionDef):
                codes = tuple(dict.fromkeys(_CODE.findall(ast.get_source_segment(text, item) or "")))
                test = f"{path.relative_to(folder).as_posix()}::{item.name}"
                found += [Attack(*words, test, codes) for words in _marks(item)]
    return sorted(found)


def _marks(item: ast.FunctionDef) -> list[tuple[str, str]]:
    """Who attacks and what they try, by the marks of a test."""
    calls = [each for each in item.decorator_list if isinstance(each, ast.Call)]
    marks = [call for call in calls if isinstance(call.func, ast.Attribute) and call.func.attr == "attack"]
    return [(ast.literal_eval(mark.args[0]), ast.literal_eval(mark.args[1])) for mark in marks]


def table(attacks: list[Attack]) -> str:
    """The attacks as Markdown."""
    rows = [
        f"| {one.attacker} | {one.tries} | {', '.join(one.codes) or 'asserted'} | `{one.test}` |" for one in attacks
    ]
    counts = Counter(one.attacker for one in attacks)
    total = f"{len(attacks)} attacks, by {len(counts)} kinds of attackers; codes are those that the test expects."
    return "\n".join([total, "", "| attacker | tries | refusal | test |", "|---|---|---|---|", *rows])


def inserted(document: str, text: str) -> str:
    """The document with ``text`` between the two marks."""
    before, _, rest = document.partition(BEGIN)
    return f"{before}{BEGIN}\n{text}\n{END}{rest.partition(END)[2]}"


def main(arguments: list[str] | None = None) -> int:
    """Prints the table, and writes it if asked."""
    parser = argparse.ArgumentParser(prog="python -m scripts.attacks", description=__doc__)
    parser.add_argument("--write", action="store_true", help="put it into docs/threat-model.md")
    options = parser.parse_args(arguments)
    text = table(gather())
    if options.write:
        DOCUMENT.write_text(inserted(DOCUMENT.read_text(), text))
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
