"""Examples in docstrings do what they show."""

import doctest
from importlib import import_module
from pathlib import Path

import pytest

import fedward

ROOT = Path(fedward.__file__).parent


def modules():
    """Modules of the package with an example."""
    for folder in (".", "server", "client", "strategies", "privacy", "simulations"):
        place = (ROOT / folder).resolve()
        for path in sorted(place.rglob("*.py")):
            if ">>>" in path.read_text(encoding="utf-8"):
                inside = path.relative_to(place).with_suffix("").as_posix()
                yield ".".join(["fedward", *([] if folder == "." else [folder]), *inside.split("/")])


@pytest.mark.parametrize("name", modules())
def test_examples(name):
    failed, tried = doctest.testmod(import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert tried
    assert not failed
