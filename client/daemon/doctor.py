"""`fedward client doctor`: everything that could stop a run, looked at before one starts. It changes nothing."""

import contextlib
import email.utils
import os
import shutil
import socket
import ssl
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import httpx

from fedward import __version__, errors
from fedward.agreements.code import core_hash
from fedward.agreements.proposal import VerifiedProposal
from fedward.client.corpora import corpus_named
from fedward.client.daemon.approvals import Approval, Approvals, approved_roster
from fedward.client.daemon.folders import HOSPITAL, SiteFolders, certificate_days, endpoint_of, written
from fedward.client.daemon.settings import MEBIBYTE, ClientConfig
from fedward.client.folder import FolderReport, check_folder
from fedward.client.link import Endpoint, ask_proxy, open_http
from fedward.client.models.registry import resolve_named
from fedward.errors import FedwardError
from fedward.examination import Doubt, Finding, examined
from fedward.places import check_places
from fedward.privacy.ledger import AnchorFile, FileStore, verify
from fedward.privacy.secagg.crypto import fingerprint
from fedward.units import check_unit

MAX_SKEW_SECONDS = 60.0
WARN_CERTIFICATE_DAYS = 30.0
CONNECT_SECONDS = 10.0


Check = Callable[[ClientConfig, SiteFolders], str | Doubt]


def examine(config: ClientConfig, *, offline: bool = False) -> Iterator[Finding]:
    """Looks at everything in order (offline: but the network); a check that fails does not keep others from running."""
    folders, reached = SiteFolders(config.folder), True
    for name, check in CHECKS.items() if offline else (CHECKS | ONLINE).items():
        chosen = check if reached else _unconnected
        found = examined(name, partial(chosen, config, folders))
        reached = name != "coordinator" or found.level != "FAIL"
        yield found


def _state_folder(config: ClientConfig, folders: SiteFolders) -> str:
    folders.make()
    HOSPITAL.check(folders.root)
    return f"{folders.root} belongs to this user alone, schema {HOSPITAL.of(folders.root)}"


def _places(config: ClientConfig, folders: SiteFolders) -> str:
    return f"{check_places(written(config, folders))} places can be written"


def _disk(config: ClientConfig, folders: SiteFolders) -> str:
    free = shutil.disk_usage(folders.root).free // MEBIBYTE
    if free < config.limits.min_free_disk_mb:
        raise errors.ResourceError(f"The disk of the state folder has {free} MB left.", code="FW-RESOURCE-302")
    started = time.monotonic()
    try:
        with tempfile.TemporaryFile(dir=folders.root) as file:
            file.write(b"fedward")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        words = f"The disk of the state folder cannot be written ({error.strerror})."
        raise errors.ResourceError(words, code="FW-RESOURCE-302") from error
    return f"{free:,} MB free, fsync in {1000 * (time.monotonic() - started):.0f} ms"


def _stop_file(config: ClientConfig, folders: SiteFolders) -> str:
    if folders.stop_file.exists():
        words = "There is a STOP file."
        raise errors.StoppedError(words, code="FW-STOP-301", fix=f"Remove {folders.stop_file} to run again.")
    return "none"


def _keys(config: ClientConfig, folders: SiteFolders) -> str:
    identity = folders.identity(config.site.name)
    folders.node_key()
    folders.journal_key()
    return f"all here, for this user alone; {config.site.name} is {fingerprint(identity.public)}"


def _certificate(config: ClientConfig, folders: SiteFolders) -> str | Doubt:
    days = certificate_days(folders, time.time())
    words = f"good for {days:.0f} more days"
    if days <= 0:
        raise errors.AuthenticationError("The certificate of this site has expired.", code="FW-AUTH-306")
    if days < WARN_CERTIFICATE_DAYS:
        return Doubt(words, "Run `fedward client renew`.")
    return words


def _roster(config: ClientConfig, folders: SiteFolders) -> str | Doubt:
    _, verified = approved_roster(folders, config, folders.identity(config.site.name))
    if verified.roster.code_hash != core_hash():
        words = "It was published for another core than is installed here."
        return Doubt(words, "After an upgrade, approve the next roster.", "FW-SECAGG-015")
    return f"approved here, {len(verified.roster.members)} hospitals, {len(verified.approved)} have approved it"


def _approvals(config: ClientConfig, folders: SiteFolders) -> str | Doubt:
    approvals = Approvals(config, folders, folders.identity(config.site.name))
    known = approvals.all()
    for found in known:  # what another release wrote is no fault of this site's files
        if not isinstance(found, Approval | errors.VersionError):
            raise found
    if ready := _ready(config, folders):
        return "ready for " + ", ".join(found.proposal.run for found in ready)
    refused = [error for found in known if (error := _obstacle(approvals, found)) is not None]
    if refused:
        return Doubt(refused[-1].message, refused[-1].fix, refused[-1].code)
    return Doubt("No plan is accepted.", "See `fedward client approve list`.")


def _obstacle(approvals: Approvals, found: Approval | FedwardError) -> FedwardError | None:
    """Why the daemon would not serve now what was accepted."""
    try:
        if isinstance(found, Approval) and found.accepted:
            approvals.check(found.verified)
            approvals.check_reader(found)
    except FedwardError as error:
        return error
    return found if isinstance(found, FedwardError) else None


def _accepted(approvals: Approvals) -> list[Approval]:
    return [found for found in approvals.all() if isinstance(found, Approval) and found.accepted]


def _ready(config: ClientConfig, folders: SiteFolders) -> list[VerifiedProposal]:
    """The accepted plans that the daemon would serve now."""
    approvals = Approvals(config, folders, folders.identity(config.site.name))
    return [found.verified for found in _accepted(approvals) if _obstacle(approvals, found) is None]


def _models(config: ClientConfig, folders: SiteFolders) -> str:
    approvals = Approvals(config, folders, folders.identity(config.site.name))
    plans = (found.verified.plan for found in _accepted(approvals))
    names = sorted({plan.base_model for plan in plans if plan.statistics is None})
    for name in names:
        if f"sha256:{resolve_named(name).sha256}" not in config.policy.allowed_base_models:
            raise errors.PolicyError(f"{name} as it is here is not on this site's list.", code="FW-POLICY-302")
    return ", ".join(names) or "none needed yet"


def _ledger(config: ClientConfig, folders: SiteFolders) -> str:
    store = FileStore(folders.ledger)
    if not store.load():
        return "none yet; the first private run begins it"
    book = verify(store)
    if config.ledger.anchor_file is not None:
        AnchorFile(Path(config.ledger.anchor_file)).check(book)
    return f"chain intact, epsilon {book.spent():.3f} of {book.genesis.cap_epsilon:g} per {book.genesis.unit} spent"


def _report(config: ClientConfig, task: str | None = None) -> FolderReport:
    tables = config.tables
    return check_folder(
        Path(tables.path), task=task, leave_out=tables.leave_out, exclude=tables.excluded, mapping=tables.mapped_by,
        most_dropped=tables.most_dropped,
    )  # fmt: skip


def _data(config: ClientConfig, folders: SiteFolders) -> str | Doubt:
    report = _report(config)
    if report.problems:
        raise report.problems[0]
    if report.format != config.tables.format or not report.usable:
        words = f"The folder holds {report.format or 'no known format'}."
        raise errors.ConfigError(words, fix="Correct data.*.format.")
    if report.excluded is not None and report.excluded["unmatched"] and not report.excluded["persons"]:
        fix = "Write the identifiers as the tables do, or take `exclude` out if these persons are not in them."
        return Doubt("the list of persons who opted out matches nobody", fix)
    words = "; ".join(f"{task.task}: {task.eligible:,} {report.plural}" for task in report.tasks)
    if report.tasks and all(task.eligible < config.policy.min_units for task in report.tasks):
        return Doubt(f"{words}, fewer than policy.min_units", "Export more records.")
    eligible = {form.form: form.units for form in report.forms} | {task.task: task.eligible for task in report.tasks}
    ready: list[VerifiedProposal] = []
    with contextlib.suppress(FedwardError):  # that this site is not enrolled is said on another line
        ready = _ready(config, folders)
    for plan in (found.plan for found in ready):
        corpus = corpus_named(config.tables.format)
        check_unit(corpus.name, corpus.unit, plan.privacy.unit)
        if plan.task not in eligible:  # running text of a hospital's notes is read only where it is asked for
            eligible |= {form.form: form.units for form in _report(config, plan.task).forms}
        training = round(eligible.get(plan.task, 0) * (1 - plan.evaluation_fraction))
        if training < config.policy.min_units:
            words = f"{words}; about {training:,} would train, fewer than policy.min_units"
            return Doubt(words, "Export more records.")
    if os.access(Path(config.tables.path), os.W_OK):
        return Doubt(f"{words}; this user could write there", "Mount or grant the folder read-only.")
    return words


def _way(config: ClientConfig) -> tuple[str, int, bool]:
    """Host and port that this machine connects to, and whether that is the proxy."""
    if config.coordinator.proxy and not Endpoint(config.coordinator.address).is_local:
        url = httpx.URL(config.coordinator.proxy)
        return url.host, url.port or 80, True
    return config.coordinator.host, config.coordinator.port, False


def _connect(config: ClientConfig, folders: SiteFolders) -> str:
    host, port, by_proxy = _way(config)
    try:
        with socket.create_connection((host, port), timeout=CONNECT_SECONDS) as link:
            if not by_proxy:
                return f"{config.coordinator.url} reached"
            ask_proxy(link, config.coordinator.address, httpx.URL(config.coordinator.proxy or ""))
            return f"{config.coordinator.url} reached through the proxy"
    except socket.gaierror as error:
        raise errors.NetworkError(f"The name {host} is not known here.", code="FW-NET-301") from error
    except OSError as error:
        if by_proxy:
            raise errors.NetworkError(f"The proxy {host}:{port} does not answer.", code="FW-NET-304") from error
        raise errors.NetworkError(f"{host}:{port} does not answer.", code="FW-NET-301") from error


def _unconnected(config: ClientConfig, folders: SiteFolders) -> Doubt:
    """What can be said of TLS without a connection: that its files are here."""
    certificate_days(folders, time.time())
    endpoint_of(config, folders)
    return Doubt("Not examined, as there was no connection.", "Correct the line above first.")


def _link(config: ClientConfig, folders: SiteFolders) -> str | Doubt:
    """The coordinator answers 404 to this path; what counts is that TLS stood and what its clock says."""
    certificate_days(folders, time.time())
    endpoint = endpoint_of(config, folders)
    try:
        with open_http(endpoint, config.link_limits) as http:
            answer = http.get(f"https://{endpoint.address}/")
    except (httpx.HTTPError, ssl.SSLError) as error:
        fix = "Compare its fingerprint; it may present another certificate."
        raise errors.NetworkError("TLS with the coordinator failed.", code="FW-NET-301", fix=fix) from error
    try:
        skew = abs(email.utils.parsedate_to_datetime(answer.headers["date"]).timestamp() - time.time())
    except (KeyError, ValueError):
        return Doubt("Both certificates accepted; no clock was shown.", "Compare the clocks.")
    if skew > MAX_SKEW_SECONDS:
        words = f"The clocks here and at the coordinator differ by {skew:.0f} s."
        raise errors.PreflightError(words, code="FW-PREFLIGHT-302")
    return f"both certificates accepted, clocks within {max(1.0, skew):.0f} s"


def firewall_rows(config: ClientConfig) -> list[tuple[str, str, str, str]]:
    """Direction, from, to and purpose of every connection: one, and none inbound."""
    target = f"{config.coordinator.host}:{config.coordinator.port}"
    host, port, by_proxy = _way(config)
    if by_proxy:
        proxy = f"{host}:{port}/tcp, CONNECT {target}"
        return [("outbound", "this machine", proxy, "TLS to the coordinator, through the proxy")]
    return [("outbound", "this machine", f"{target}/tcp", "TLS to the coordinator, both sides with certificates")]


CHECKS: dict[str, Check] = {
    "version": lambda *_: f"fedward {__version__}",
    "state folder": _state_folder,
    "disk": _disk,
    "places": _places,
    "stop file": _stop_file,
    "keys": _keys,
    "certificate": _certificate,
    "roster": _roster,
    "approvals": _approvals,
    "base models": _models,
    "ledger": _ledger,
    "data": _data,
}
ONLINE: dict[str, Check] = {"coordinator": _connect, "TLS and clock": _link}
