"""A scenario of the eICU's regions, whose number is not known before they are read, on the packaged model."""

from importlib import resources

import pytest


@pytest.fixture
def regions(tmp_path):
    text = (resources.files("fedward.simulations") / "scenarios" / "eicu.toml").read_text(encoding="utf-8")
    path = tmp_path / "regions.toml"
    path.write_text(text.replace('"minilm"', '"tiny-clinical"'), encoding="utf-8")
    return str(path)
