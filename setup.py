"""Build-time check; everything else stands in pyproject.toml."""

from pathlib import Path

from setuptools import setup

ROOT = Path(__file__).parent
LINKED = ("server", "client", "strategies", "privacy", "simulations")

if broken := [name for name in LINKED if not (ROOT / "fedward" / name / "__init__.py").is_file()]:
    raise SystemExit(
        f"fedward/{broken[0]} is not a link to ../{broken[0]}: this checkout lost its symbolic links "
        "(git config core.symlinks true, then check out again)."
    )

setup()
