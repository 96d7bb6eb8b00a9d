"""`fedward client doctor`: everything that could stop a run, looked at before one starts. It changes nothing."""

from __future__ import annotations

import contextlib
import email.utils
import os
import shutil
import socket
import ssl
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import httpx

import fedward
from fedward.agreements.code import core_hash
from fedward.agreements.proposal import VerifiedProposal
from fedward.client.corpora import check_unit, corpus_named
from fedward.client.daemon.approvals import Approval, Approvals, approved_roster
from fedward.client.daemon.folders import SiteFolders, endpoint_of
from fedward.client.daemon.keys import certificate_days
from fedward.client.daemon.settings import MEBIBYTE, ClientConfig
from fedward.client.folder import check_folder
from fedward.client.link import open_http
from fedward.client.models.registry import resolve
from fedward.errors import (
    AuthenticationError,
    ConfigError,
    FedwardError,
    NetworkError,
    PolicyError,
    PreflightError,
    ResourceError,
    StoppedError,
    VersionError,
)
from fedward.privacy.ledger import AnchorFile, FileStore, verify
from fedward.privacy.secagg.crypto import fingerprint

Level = Literal["ok", "warn", "FAIL"]
MAX_SKEW_SECONDS = 60.0
WARN_CERTIFICATE_DAYS = 30.0
CONNECT_SECONDS = 10.0


@dataclass(frozen=True)
class Finding:
    """One line of the examination."""

    name: str
    level: Level
    words: str
    fix: str = ""
    code: str = ""


def examine(config: ClientConfig, *, offline: bool = False) -> Iterator[Finding]:
    """Looks at everything, in order; a check that fails does not keep the others from running.

    Args:
        config: ``client.toml``.
        offline: leaves out what needs the network.
    """
    folders = SiteFolders(config.folder)
    checks: list[tuple[str, Callable[[], str | Finding]]] = [
        ("version", lambda: f"fedward {fedward.__version__}"),
        ("state folder", lambda: _state_folder(folders)),
        ("disk", lambda: _disk(config, folders)),
        ("stop file", lambda: _stop_file(folders)),
        ("keys", lambda: _keys(config, folders)),
        ("certificate", lambda: _certificate(folders)),
        ("roster", lambda: _roster(config, folders)),
        ("approvals", lambda: _approvals(config, folders)),
        ("base models", lambda: _models(config, folders)),
        ("ledger", lambda: _ledger(config, folders)),
        ("data", lambda: _data(config, folders)),
    ]
    if not offline:
        checks += [("coordinator", lambda: _connect(config)), ("TLS and clock", lambda: _link(config, folders))]
    reached = True
    for name, check in checks:
        found = _run(name, check if reached else lambda: _unconnected(config, folders))
        reached = name != "coordinator" or found.level != "FAIL"
        yield found


def _run(name: str, check: Callable[[], str | Finding]) -> Finding:
    try:
        found = check()
    except FedwardError as error:
        return _fail(name, error)
    except Exception as error:
        # The text of an unexpected exception may quote a record, so only its kind is shown.
        return _fail(
            name,
            PreflightError(
                f"An unexpected {type(error).__name__} kept this from being examined.", code="FW-PREFLIGHT-303"
            ),
        )
    return found if isinstance(found, Finding) else Finding(name, "ok", found)


def _fail(name: str, error: FedwardError) -> Finding:
    return Finding(name, "FAIL", error.message, error.fix, error.code)


def _state_folder(folders: SiteFolders) -> str:
    folders.make()
    return f"{folders.root} belongs to this user alone"


def _disk(config: ClientConfig, folders: SiteFolders) -> str:
    free = shutil.disk_usage(folders.root).free // MEBIBYTE
    if free < config.limits.min_free_disk_mb:
        raise ResourceError(f"The disk of the state folder has {free} MB left.", code="FW-RESOURCE-302")
    started = time.monotonic()
    try:
        with tempfile.TemporaryFile(dir=folders.root) as file:
            file.write(b"fedward")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise ResourceError(
            f"The disk of the state folder cannot be written ({error.strerror}).", code="FW-RESOURCE-302"
        ) from error
    return f"{free:,} MB free, fsync in {1000 * (time.monotonic() - started):.0f} ms"


def _stop_file(folders: SiteFolders) -> str:
    if folders.stop_file.exists():
        raise StoppedError("There is a STOP file.", code="FW-STOP-301", fix=f"Remove {folders.stop_file} to run again.")
    return "none"


def _keys(config: ClientConfig, folders: SiteFolders) -> str:
    identity = folders.identity(config.site.name)
    folders.node_key()
    folders.journal_key()
    return f"all here, for this user alone; {config.site.name} is {fingerprint(identity.public)}"


def _certificate(folders: SiteFolders) -> str | Finding:
    days = certificate_days(folders.certificate[0], time.time())
    words = f"good for {days:.0f} more days"
    if days <= 0:
        raise AuthenticationError("The certificate of this site has expired.", code="FW-AUTH-306")
    if days < WARN_CERTIFICATE_DAYS:
        return Finding("certificate", "warn", words, "Run `fedward client renew`.")
    return words


def _roster(config: ClientConfig, folders: SiteFolders) -> str | Finding:
    _, verified = approved_roster(folders, config, folders.identity(config.site.name))
    if verified.roster.code_hash != core_hash():
        words = "It was published for another core than is installed here."
        return Finding("roster", "warn", words, "After an upgrade, approve the next roster.", "FW-SECAGG-015")
    return f"approved here, {len(verified.roster.members)} hospitals, {len(verified.approved)} have approved it"


def _approvals(config: ClientConfig, folders: SiteFolders) -> str | Finding:
    approvals = Approvals(config, folders, folders.identity(config.site.name))
    refused: list[FedwardError] = []
    for found in approvals.all():
        if isinstance(found, Approval):
            refused += [error] if found.accepted and (error := _obstacle(approvals, found)) else []
        elif isinstance(found, VersionError):
            refused.append(found)  # another release wrote it, which is no fault of this site's files
        else:
            raise found
    if ready := _ready(config, folders):
        return "ready for " + ", ".join(found.proposal.run for found in ready)
    if refused:
        return Finding("approvals", "warn", refused[-1].message, refused[-1].fix, refused[-1].code)
    return Finding("approvals", "warn", "No plan is accepted.", "See `fedward client approve list`.")


def _obstacle(approvals: Approvals, found: Approval) -> FedwardError | None:
    """Why the daemon would not serve an accepted plan now."""
    try:
        approvals.check(found.verified)
        approvals.check_reader(found)
    except FedwardError as error:
        return error
    return None


def _ready(config: ClientConfig, folders: SiteFolders) -> list[VerifiedProposal]:
    """The accepted plans that the daemon would serve now."""
    approvals = Approvals(config, folders, folders.identity(config.site.name))
    accepted = (found for found in approvals.all() if isinstance(found, Approval) and found.accepted)
    return [found.verified for found in accepted if _obstacle(approvals, found) is None]


def _models(config: ClientConfig, folders: SiteFolders) -> str:
    approvals = Approvals(config, folders, folders.identity(config.site.name))
    names = {
        found.verified.plan.base_model for found in approvals.all() if isinstance(found, Approval) and found.accepted
    }
    for name in sorted(names):
        if f"sha256:{resolve(name).sha256}" not in config.policy.allowed_base_models:
            raise PolicyError(f"{name} as it is here is not on this site's list.", code="FW-POLICY-302")
    return ", ".join(sorted(names)) or "none needed yet"


def _ledger(config: ClientConfig, folders: SiteFolders) -> str:
    store = FileStore(folders.ledger)
    if not store.load():
        return "none yet; the first private run begins it"
    book = verify(store)
    if config.ledger.anchor_file is not None:
        AnchorFile(Path(config.ledger.anchor_file)).check(book)
    return f"chain intact, epsilon {book.spent():.3f} of {book.genesis.cap_epsilon:g} per {book.genesis.unit} spent"


def _data(config: ClientConfig, folders: SiteFolders) -> str | Finding:
    report = check_folder(config.data_folder, leave_out=config.tables.leave_out)
    if report.format != config.tables.format or not report.usable:
        first = report.problems[0] if report.problems else None
        words = first.message if first else f"The folder holds {report.format or 'no known format'}."
        return Finding(
            "data",
            "FAIL",
            words,
            first.fix if first else "Correct data.*.format.",
            first.code if first else ConfigError.code,
        )
    words = "; ".join(f"{task.task}: {task.eligible:,} {report.plural}" for task in report.tasks)
    if report.tasks and all(task.eligible < config.policy.min_units for task in report.tasks):
        return Finding("data", "warn", f"{words}, fewer than policy.min_units", "Export more records.")
    eligible = {task.task: task.eligible for task in report.tasks}
    for plan in (found.plan for found in _plans(config, folders)):
        check_unit(corpus_named(config.tables.format), plan.privacy.unit)
        training = round(eligible.get(plan.task, 0) * (1 - plan.evaluation_fraction))
        if training < config.policy.min_units:
            words = f"{words}; about {training:,} would train, fewer than policy.min_units"
            return Finding("data", "warn", words, "Export more records.")
    if os.access(config.data_folder, os.W_OK):
        return Finding("data", "warn", f"{words}; this user could write there", "Mount or grant the folder read-only.")
    return words


def _plans(config: ClientConfig, folders: SiteFolders) -> list[VerifiedProposal]:
    """What was accepted, where this site is enrolled; that it is not is said on another line."""
    with contextlib.suppress(FedwardError):
        return _ready(config, folders)
    return []


def _connect(config: ClientConfig) -> str:
    host, port = config.coordinator.host, config.coordinator.port
    via = ""
    if config.coordinator.proxy:
        url = httpx.URL(config.coordinator.proxy)
        host, port, via = url.host, url.port or 80, " through the proxy"
    try:
        with socket.create_connection((host, port), timeout=CONNECT_SECONDS):
            return f"{config.coordinator.url} reached{via}"
    except socket.gaierror as error:
        raise NetworkError(f"The name {host} is not known here.", code="FW-NET-301") from error
    except OSError as error:
        raise NetworkError(f"{host}:{port} does not answer.", code="FW-NET-301") from error


def _unconnected(config: ClientConfig, folders: SiteFolders) -> Finding:
    """What can be said of TLS without a connection: that its files are here."""
    certificate_days(folders.certificate[0], time.time())
    endpoint_of(config, folders)
    return Finding(
        "TLS and clock", "warn", "Not examined, as there was no connection.", "Correct the line above first."
    )


def _link(config: ClientConfig, folders: SiteFolders) -> str | Finding:
    """The coordinator answers 404 to this path; what counts is that TLS stood and what its clock says."""
    certificate_days(folders.certificate[0], time.time())
    endpoint = endpoint_of(config, folders)
    try:
        with open_http(endpoint, config.link_limits) as http:
            answer = http.get(f"https://{endpoint.address}/")
    except (httpx.HTTPError, ssl.SSLError) as error:
        raise NetworkError(
            "TLS with the coordinator failed.",
            code="FW-NET-301",
            fix="Compare its fingerprint; it may present another certificate.",
        ) from error
    try:
        skew = abs(email.utils.parsedate_to_datetime(answer.headers["date"]).timestamp() - time.time())
    except (KeyError, ValueError):
        return Finding(
            "TLS and clock", "warn", "Both certificates accepted; no clock was shown.", "Compare the clocks."
        )
    if skew > MAX_SKEW_SECONDS:
        raise PreflightError(f"The clocks here and at the coordinator differ by {skew:.0f} s.", code="FW-PREFLIGHT-302")
    return f"both certificates accepted, clocks within {max(1.0, skew):.0f} s"


def firewall_rows(config: ClientConfig) -> list[tuple[str, str, str, str]]:
    """Direction, from, to and purpose of every connection: one, and none inbound."""
    target = f"{config.coordinator.host}:{config.coordinator.port}/tcp"
    if config.coordinator.proxy:
        url = httpx.URL(config.coordinator.proxy)
        via = f"{url.host}:{url.port or 80}/tcp, CONNECT {config.coordinator.host}:{config.coordinator.port}"
        return [("outbound", "this machine", via, "TLS to the coordinator, through the proxy")]
    return [("outbound", "this machine", target, "TLS to the coordinator, both sides with certificates")]
