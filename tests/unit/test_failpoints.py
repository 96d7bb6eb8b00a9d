"""Failpoints: every durable write and every send of both sides has one, and nothing but chaos can arm them."""

import ast
from pathlib import Path

import pytest

import fedward
from fedward.failpoints import failpoint, unsafe_arm

ROOT = Path(fedward.__file__).parent
SERVICES = (
    "storage.py",
    "flower.py",
    "privacy/ledger.py",
    "privacy/secagg",
    "server",
    "client/daemon",
    "client/fleet.py",
    "client/flower.py",
    "client/hospital.py",
    "client/link.py",
    "client/result_verification.py",
    "client/training.py",
)
"""What runs at a coordinator and at a hospital for as long as a federation does."""

WRITES = {"write", "fsync", "truncate", "ftruncate", "replace", "rename", "unlink", "rmtree", "mkdir"}
WRITES |= {"write_text", "write_bytes", "save_file", "copyfile"}
SENDS = {"PushMessages", "ConfirmMessageReceived"}

EXEMPT = {
    "server/gateway.py": "a pipe to the parent process, and the log",
    "server/superlink.py": "a pipe to the child, a log, and a secret that each start makes anew",
    "server/starter.py": "a pipe to the child",
    "server/deployment/backup.py": "a command of a person, into a new folder that is kept only when it is whole",
    "server/deployment/settings.py": "commands of a person that make a coordinator's folder",
    "server/deployment/channel.py": "where the service listens, written anew at each start",
    "server/deployment/pulse.py": "a sign of life",
    "server/deployment/service.py": "Flower's database, begun anew at each start",
    "client/daemon/doctor.py": "probes that are taken away again",
    "client/daemon/folders.py": "commands of a person that enrol a hospital, through the helpers of storage",
}
"""Files whose own writes have no failpoint: what is lost there is made anew."""

FUNCTIONS = {
    "storage.py:replace_file": "",
    "storage.py:_write": "of its callers, all of which have failpoints",
    "storage.py:sync_folder": "of its callers, all of which have failpoints",
    "client/fleet.py:FleetSession.__enter__": "the node's id, asked for anew where it is lost",
    "server/job.py:_waiting_for_hospitals": "who is missing, for people to read; each process writes it anew",
    "server/job_files.py:write_vector": "a draft that place_file puts in its place",
    "server/deployment/records.py:Sites.accept": "an invitation that was used: who has joined renews without one",
    "server/deployment/records.py:Runs.submit": "",
}


def calls(tree):
    """Every function with the plain and last names of what it calls itself; calls in nested functions are its own."""

    def visit(node, path):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef):
                yield from visit(child, [*path, child.name])
            elif isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                found = [call for call in ast.walk(child) if isinstance(call, ast.Call)]
                yield ".".join([*path, child.name]), found

    yield from visit(tree, [])


def last_name(call):
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def writes(call):
    """Whether a call writes or sends: by its name, or as an ``open`` for writing."""
    name = last_name(call)
    if name == "replace":  # of a Path, with one argument; text has two, and a dataclass names its fields
        return isinstance(call.func, ast.Attribute) and len(call.args) == 1 and not call.keywords
    if name in ("write", "fsync"):  # of the system; files of Python are opened first
        return isinstance(call.func, ast.Attribute) and getattr(call.func.value, "id", "") == "os"
    if name == "open" and isinstance(call.func, ast.Attribute):
        modes = [arg.value for arg in call.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
        return any(set(mode) & set("wax+") for mode in modes)
    return name in WRITES | SENDS and isinstance(call.func, ast.Attribute | ast.Name)


def service_files():
    for part in SERVICES:
        path = ROOT / part
        yield from [path] if path.suffix else sorted(path.rglob("*.py"))


def sites():
    """Every function of the services that writes or sends by itself, and whether it has a failpoint."""
    for path in service_files():
        name = path.relative_to(ROOT).as_posix()
        if name in EXEMPT:
            continue
        for function, made in calls(ast.parse(path.read_text(encoding="utf-8"))):
            if any(writes(call) for call in made):
                yield f"{name}:{function}", any(last_name(call) == "failpoint" for call in made)


def test_every_function_that_writes_or_sends_has_a_failpoint():
    without = {site for site, has in sites() if not has}
    assert without - FUNCTIONS.keys() == set()


def test_no_exemption_is_left_over():
    found = {site for site, _ in sites()}
    assert {name for name, why in FUNCTIONS.items() if why} <= found
    assert all((ROOT / name).exists() for name in EXEMPT)


def test_an_unarmed_failpoint_does_nothing_and_an_armed_one_what_it_was_given():
    met = []
    failpoint("replace", "before")
    unsafe_arm(lambda name, when: met.append((name, when)))
    try:
        failpoint("replace", "after")
    finally:
        unsafe_arm(None)
    failpoint("replace", "amid")
    assert met == [("replace", "after")]


def test_nothing_but_the_processes_of_chaos_arms_failpoints():
    """No option, file, plan, message or environment variable may lead there."""
    arming = {
        path.relative_to(ROOT).as_posix()
        for folder in (ROOT, *(part for part in ROOT.iterdir() if part.is_dir()))
        for path in folder.rglob("*.py")
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Name | ast.Attribute | ast.alias) and "unsafe_arm" in ast.dump(call)
    }
    assert arming == {"simulations/chaos/points.py"}
    assert "import os" not in (ROOT / "failpoints.py").read_text(encoding="utf-8")


@pytest.mark.parametrize("part", SERVICES)
def test_what_is_searched_is_there(part):
    assert (ROOT / part).exists()
