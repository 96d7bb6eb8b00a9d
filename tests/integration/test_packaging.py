"""The wheel holds what the tree holds, the coordinator needs no torch, and the hygiene switches are set."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from fedward.agreements.code import core_hash

ROOT = Path(__file__).parents[2]
LINKED = ("server", "client", "strategies", "privacy", "simulations")
DATA = (".toml", ".json", ".txt", ".safetensors", ".md", ".html", ".css", ".js", "py.typed")


def package_files():
    found = set()
    for top in ("fedward", *LINKED):
        for path in (ROOT / top).rglob("*"):
            if path.is_file() and not path.is_symlink() and "__pycache__" not in path.parts:
                relative = path.relative_to(ROOT)
                name = relative if top == "fedward" else Path("fedward") / relative
                if path.suffix == ".py" or path.name.endswith(DATA):
                    found.add(name.as_posix())
    return found


@pytest.mark.slow
def test_the_wheel_holds_exactly_the_tree_and_pins_the_same_code(tmp_path):
    copy = tmp_path / "source"
    ignore = shutil.ignore_patterns(".git", ".venv", "build", "*.egg-info", "__pycache__", "tests", "runs", "demo-run")
    shutil.copytree(ROOT, copy, symlinks=True, ignore=ignore)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "-q",
        "-w",
        str(tmp_path),
        str(copy),
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    (wheel,) = tmp_path.glob("fedward-*.whl")
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert names == package_files()
    installed = tmp_path / "installed"
    zipfile.ZipFile(wheel).extractall(installed)
    program = "import fedward, fedward.agreements.code as c; print(fedward.__file__, c.core_hash().hex())"
    told = subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(installed)},
    ).stdout
    here = str(installed / "fedward" / "__init__.py")
    assert told.split() == [here, core_hash().hex()], "or a coordinator from the tree refuses a hospital from the wheel"


@pytest.mark.slow
def test_a_checkout_without_links_does_not_build(tmp_path):
    copy = tmp_path / "source"
    shutil.copytree(ROOT / "fedward", copy / "fedward", symlinks=True)
    for name in LINKED:
        (copy / "fedward" / name).unlink()
        (copy / "fedward" / name).write_text(f"../{name}")
    for name in ("pyproject.toml", "setup.py", "README.md"):
        shutil.copy(ROOT / name, copy / name)
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "-q",
        "-w",
        str(tmp_path),
        str(copy),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode != 0
    assert "symbolic links" in done.stderr + done.stdout


def run_python(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env={**os.environ, **environment}
    )


def test_the_coordinator_runs_without_torch():
    hide = (
        "import sys\n"
        "class Hide:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] in ('torch', 'transformers', 'peft', 'opacus'):\n"
        "            raise ImportError(name)\n"
        "sys.meta_path.insert(0, Hide())\n"
    )
    modules = [
        f"fedward.{path.relative_to(ROOT).with_suffix('').as_posix().replace('/', '.')}"
        for top in ("server", "strategies", "privacy/secagg")
        for path in sorted((ROOT / top).rglob("*.py"))
        if path.stem not in ("__init__", "__main__")
    ]
    assert len(modules) > 20
    done = run_python(hide + "\n".join(f"import {module}" for module in modules))
    assert done.returncode == 0, done.stderr[-2000:]


def test_flower_is_told_not_to_call_home_before_it_is_imported():
    code = (
        "import os; os.environ['FLWR_TELEMETRY_ENABLED']='1'\n"
        "import fedward, flwr.supercore.telemetry as t, os\n"
        "print(os.environ['FLWR_TELEMETRY_ENABLED'], os.environ['FLWR_DISABLE_UPDATE_CHECK'], t.FLWR_TELEMETRY_ENABLED)"
    )
    done = run_python(code)
    assert done.stdout.split() == ["0", "1", "0"], done.stderr[-500:]


def test_no_source_file_names_a_machine_or_unpickles():
    banned = ("import pickle", "torch.load(", "trust_remote_code=True", "/tmp/", "/root/", "/home/")
    for top in ("fedward", *LINKED, "benchmarks"):
        for path in (ROOT / top).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            assert not [word for word in banned if word in text], path
