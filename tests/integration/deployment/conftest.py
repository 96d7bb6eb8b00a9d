"""What people at a coordinator and at three hospitals type; only the daemons are processes of their own."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fedward.cli import main as cli
from fedward.errors import FedwardError

SITES = ("st-anna", "st-bede", "st-clare")
SCENARIO = """
name = "deployed"
[training]
rounds = {rounds}
local_steps = 1
[adapter]
top_layers = 1
[privacy]
reply_seconds = 0.2
epsilon = 4.0
units_per_site = 60
release_every = 1
evaluate_every = 1
[secure_sum]
leg_seconds = 150
"""
CLIENT = """
[site]
name = "{name}"
state_dir = "{folder}/state"
[coordinator]
url = "https://127.0.0.1:{port}"
[data.icu]
path = "{data}"
format = "{layout}"
[policy]
min_units = 20
max_epsilon_per_run = 8.0
max_epsilon_lifetime = 9.0
allowed_base_models = ["sha256:{model}"]
"""


def fedward(*words):
    """Runs a command and returns what it printed; raises the command's own error."""
    if not cli.app.registered_commands:
        cli._mount()
    result = CliRunner().invoke(cli.app, [str(word) for word in words])
    if isinstance(result.exception, FedwardError):
        raise result.exception
    assert result.exception is None or isinstance(result.exception, SystemExit), repr(result.exception)
    assert result.exit_code == 0, result.output
    return result.output


def labelled(text, label):
    """The rest of the line that begins with ``label``."""
    return next(line.partition(label)[2].strip() for line in text.splitlines() if line.startswith(label))


def eventually(condition, seconds=300.0):
    """Gives up only where something is broken: three daemons and a job may start on a machine that is busy."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition was never met"
        time.sleep(0.2)


class Daemon:
    """A long-lived command as a process; all that it prints goes to ``log``."""

    def __init__(self, log, *words):
        self.log = log
        command = [sys.executable, "-c", "from fedward.cli.main import run; run()", *map(str, words)]
        with log.open("ab") as file:
            self.process = subprocess.Popen(
                command, stdout=file, stderr=file, env={**os.environ, "OMP_NUM_THREADS": "1"}
            )

    def text(self):
        return self.log.read_text(errors="replace")

    def kill(self):
        self.process.kill()
        self.process.wait()

    def end(self, seconds=30):
        """SIGTERM; returns the exit status."""
        self.process.terminate()
        try:
            return self.process.wait(timeout=seconds)
        finally:
            self.kill()


class Hospital:
    """One hospital's folder, configuration and daemon."""

    def __init__(self, name, folder, settings):
        self.name, self.folder, self.daemon = name, folder, None
        folder.mkdir()
        self.config, self.log, self.state = folder / "client.toml", folder / "log", folder / "state"
        self.config.write_text(CLIENT.format(name=name, folder=folder, **settings), encoding="utf-8")

    def say(self, *words):
        return fedward("client", *words, "--config", self.config)

    def accept(self, plan, *words, config=None):
        """Shows a plan and accepts what was shown."""
        at = ("--config", config or self.config)
        shown = json.loads(fedward("client", "approve", "show", plan, "--json", *at))["fingerprint"]
        return fedward("client", "approve", "accept", plan, "--fingerprint", shown, *words, *at)

    def start(self):
        self.daemon = Daemon(self.log, "client", "run", "--config", self.config)

    def with_policy(self, **changes):
        """A copy of client.toml with other limits, for the same state folder."""
        lines = [line for line in self.config.read_text().splitlines() if line.partition(" ")[0] not in changes]
        at = lines.index("[policy]") + 1
        lines[at:at] = [f"{key} = {value}" for key, value in changes.items()]
        path = self.folder / "changed.toml"
        path.write_text("\n".join(lines), encoding="utf-8")
        return path


class Federation:
    """A coordinator and three hospitals that have joined it; see the methods for what is started when."""

    def __init__(self, folder, scenario, layouts, write_data=None):
        self.folder, self.layouts, self._write_data = folder, layouts, write_data
        self.port = _free_port()
        self.health = _free_port()
        self.config = folder / "coordinator" / "server.toml"
        self.plan, self.roster, self.data = folder / "plan", folder / "roster.cbor", folder / "data"
        self.state = folder / "coordinator" / "state"
        self.daemon = None
        made = fedward(
            *("server", "init", folder / "coordinator", "--federation", "demo", "--name", "127.0.0.1"),
            *("--host", "127.0.0.1", "--port", self.port, "--health", f"127.0.0.1:{self.health}"),
        )
        self.fingerprint = labelled(made, "Coordinator fingerprint:")
        (folder / "scenario.toml").write_text(scenario, encoding="utf-8")
        fedward("plan", "new", folder / "scenario.toml", "--out", self.plan)
        self.signed = self.sign("run-1")
        self._write_tables()
        text = (self.plan / "plan.toml").read_text()
        self.model = labelled(text, "base_model_sha256 =").strip('"')
        self.hospitals = [self._hospital(name) for name in SITES]
        for hospital in self.hospitals:
            self._enrol(hospital)
        self._agree()

    def server(self, *words):
        return fedward("server", *words, "--config", self.config)

    def sign(self, run, **options):
        """The signed plan of a run, as the file that hospitals are sent."""
        extra = [word for key, value in options.items() for word in (f"--{key}", value)]
        fedward("plan", "sign", self.plan, "--run", run, "--config", self.config, *extra)
        path = self.folder / f"{run}.fedward"
        path.write_bytes((self.plan / "plan.fedward").read_bytes())
        return path

    def serve(self):
        self.daemon = Daemon(self.folder / "server-log", "server", "serve", "--config", self.config)
        eventually(self._serving)

    def run(self, name):
        """The record of a run and its last round, from the files: a command per look would cost more than the run."""
        folder = self.state / "runs" / name
        progress = folder / "progress.json"
        done = json.loads(progress.read_bytes())["round"] if progress.exists() else 0
        return {**json.loads((folder / "run.json").read_bytes()), "round": done}

    def stop(self):
        for daemon in (self.daemon, *(hospital.daemon for hospital in self.hospitals)):
            if daemon is not None:
                daemon.kill()

    def _serving(self):
        assert self.daemon.process.poll() is None, self.daemon.text()
        try:
            return '"serving": true' in self.server("status", "--json")
        except FedwardError:
            return False

    def tables(self, name):
        """The folder of a hospital's tables."""
        return self.data / self.layouts[name] / name

    def _write_tables(self):
        if self._write_data is not None:
            for name in SITES:
                self.tables(name).mkdir(parents=True)
                self._write_data(self.tables(name), name)
            return
        for seed, layout in enumerate(sorted(set(self.layouts.values())), start=1):
            names = [word for site in SITES if self.layouts[site] == layout for word in ("--name", site)]
            words = ("--patients", 90, "--layout", layout, "--seed", seed)
            fedward("data", "synthetic", self.data / layout, *names, *words)

    def _hospital(self, name):
        layout = self.layouts[name]
        settings = {"port": self.port, "data": self.tables(name), "model": self.model, "layout": layout}
        return Hospital(name, self.folder / name, settings)

    def _enrol(self, hospital):
        code, request, answer = (hospital.folder / name for name in ("code", "request", "answer"))
        self.server("invite", hospital.name, "--out", code)
        spoken = hospital.say("enroll", "--code-file", code, "--out", request).splitlines()[-1]
        self.server("accept", request, "--fingerprint", spoken, "--out", answer)
        hospital.say("join", answer, "--fingerprint", self.fingerprint)

    def _agree(self):
        shown = fedward("roster", "publish", self.plan, "--config", self.config, "--out", self.roster)
        spoken, copies = labelled(shown, "Roster fingerprint:"), []
        for hospital in self.hospitals:
            copies.append(hospital.folder / "roster.cbor")
            copies[-1].write_bytes(Path(self.roster).read_bytes())
            fedward("roster", "approve", copies[-1], "--config", hospital.config, "--fingerprint", spoken)
        fedward("roster", "merge", self.roster, *copies)


def _free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def _scenario(module):
    return getattr(module, "SCENARIO", None) or SCENARIO.format(rounds=getattr(module, "ROUNDS", 1))


@pytest.fixture(scope="module")
def federation(request, tmp_path_factory):
    """Of the scenario that the module names ``SCENARIO``, or of the one here with as many rounds as it says.

    ``LAYOUTS`` of the module says which tables each hospital has; MIMIC-III without it. Tables are synthetic, unless
    the module has ``write_data(folder, name)``.
    """
    layouts = getattr(request.module, "LAYOUTS", dict.fromkeys(SITES, "mimic-iii"))
    made = Federation(
        tmp_path_factory.mktemp("federation"),
        _scenario(request.module),
        layouts,
        getattr(request.module, "write_data", None),
    )
    try:
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="session")
def command():
    return fedward


@pytest.fixture(scope="session", name="eventually")
def eventually_fixture():
    return eventually
