from __future__ import annotations

from typer.testing import CliRunner

import fedward
from fedward.cli.main import app


def test_version_alone() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert (result.exit_code, result.stdout.strip()) == (0, f"fedward {fedward.__version__}")
