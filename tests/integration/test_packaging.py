"""The wheel holds what the tree holds, the coordinator needs no torch, and the hygiene switches are set."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from fedward.agreements.code import core_hash

ROOT = Path(__file__).parents[2]
ROLES = ("server", "client", "strategies", "privacy", "simulations")
DATA = (".toml", ".json", ".txt", ".safetensors", ".md", ".html", ".css", ".js", "py.typed")


def package_files(root=ROOT):
    found = set()
    for top in ("fedward", *ROLES):
        for path in (root / top).rglob("*"):
            if path.is_file() and not path.is_symlink() and "__pycache__" not in path.parts:
                relative = path.relative_to(root)
                name = relative if top == "fedward" else Path("fedward") / relative
                if path.suffix == ".py" or path.name.endswith(DATA):
                    found.add(name.as_posix())
    return found


def tracked_files():
    """What a checkout holds, without the links in fedward/ and what only git reads."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    return {name for name in listed if name and (ROOT / name).is_file() and not (ROOT / name).is_symlink()}


def copy_of_the_tree(target):
    ignore = shutil.ignore_patterns(".git", ".venv", "build", "*.egg-info", "__pycache__", "runs", "demo-*", ".*_cache")
    shutil.copytree(ROOT, target, symlinks=True, ignore=ignore)
    return target


def without_links(root):
    """What a ZIP file, or git on Windows, makes of the links in fedward/."""
    for role in ROLES:
        link = root / "fedward" / role
        if link.is_symlink():
            link.unlink()
        link.write_text(f"../{role}", encoding="utf-8")
    return root


def contents(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist() if not name.endswith("/RECORD")}


def build(source, into, *what):
    command = [sys.executable, "-m", "build", "--no-isolation", *what, "--outdir", str(into), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return into


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """An sdist, and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("archives")
    built = build(copy_of_the_tree(folder / "source"), folder / "dist")
    (sdist,), (wheel,) = built.glob("fedward-*.tar.gz"), built.glob("fedward-*.whl")
    return sdist, wheel


@pytest.mark.slow
def test_the_sdist_holds_all_that_the_repository_holds(archives):
    with tarfile.open(archives[0]) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    assert not tracked_files() - held
    assert {"LICENSE", "constraints.txt", "deploy/Dockerfile", "docs/hospital.md", "tests/conftest.py"} <= held


@pytest.mark.slow
def test_the_wheel_from_the_sdist_holds_exactly_the_tree_and_pins_the_same_code(archives, tmp_path):
    wheel = contents(archives[1])
    assert {name for name in wheel if ".dist-info/" not in name} == package_files()
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in wheel)
    installed = tmp_path / "installed"
    shutil.unpack_archive(archives[1], installed, "zip")
    program = "import fedward, fedward.agreements.code as c; print(fedward.__file__, c.core_hash().hex())"
    told = run_python(program, PYTHONPATH=str(installed), cwd=tmp_path)
    here = str(installed / "fedward" / "__init__.py")
    assert told.stdout.split() == [here, core_hash().hex()], "or a coordinator from the tree refuses a hospital from it"


@pytest.mark.slow
def test_a_checkout_with_links_and_one_without_build_the_same_wheel(archives, tmp_path):
    (linked,) = build(copy_of_the_tree(tmp_path / "linked"), tmp_path / "one", "--wheel").glob("*.whl")
    (plain,) = build(without_links(copy_of_the_tree(tmp_path / "plain")), tmp_path / "two", "--wheel").glob("*.whl")
    assert contents(linked) == contents(plain) == contents(archives[1])


@pytest.mark.slow
@pytest.mark.torch
def test_an_editable_install_works_without_links(tmp_path):
    source, site = without_links(copy_of_the_tree(tmp_path / "source")), tmp_path / "site"
    site.mkdir()
    hook = f"import setuptools.build_meta as backend; print(backend.build_editable({str(site)!r}))"
    made = run_python(hook, cwd=source)
    assert made.returncode == 0, made.stderr[-2000:]
    shutil.unpack_archive(site / made.stdout.split()[-1], site, "zip")
    needed = [path for path in sys.path if Path(path).name == "site-packages"]
    # -S: without this environment's own fedward, but with what fedward needs.
    program = (
        f"import site, sys; site.addsitedir({str(site)!r}); sys.path += {needed!r}\n"
        "import fedward.client, fedward.server.rounds as rounds, fedward.planning.scenario as scenario\n"
        "from fedward.agreements.code import core_hash\n"
        "print(rounds.__file__, scenario._SHIPPED.is_dir(), core_hash().hex())"
    )
    told = run_python(program, "-I", "-S", cwd=tmp_path)
    expected = [str(source / "server" / "rounds.py"), "True", core_hash().hex()]
    assert told.stdout.split() == expected, told.stderr[-2000:]


def run_python(code, *options, cwd=None, **environment):
    return subprocess.run(
        [sys.executable, *options, "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=cwd,
        env={**os.environ, **environment},
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
    for top in ("fedward", *ROLES, "benchmarks", "scripts"):
        for path in (ROOT / top).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            assert not [word for word in banned if word in text], path
