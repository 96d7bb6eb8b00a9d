"""`fedward server doctor`: everything that could keep a coordinator from serving, looked at before it starts.

It changes nothing, and may be asked while the server runs.
"""

import contextlib
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from functools import partial

from cryptography import x509

from fedward import __version__
from fedward.errors import AuthenticationError, FedwardError, ResourceError
from fedward.examination import Doubt, Finding, examined
from fedward.places import check_places
from fedward.privacy.secagg.crypto import fingerprint
from fedward.server.deployment.channel import command
from fedward.server.deployment.records import COORDINATOR_STATE, Runs, Sites, describe, missing_of
from fedward.server.deployment.settings import Authority, ServerConfig, ServerFolders
from fedward.server.job_files import LostProcessError
from fedward.storage import read_secret

LEAST_FREE_MB = 1024
WARN_CERTIFICATE_DAYS = 30.0
MEBIBYTE, DAY_SECONDS = 1024**2, 86_400.0

Check = Callable[[ServerConfig, ServerFolders], str | Doubt]


def examine(config: ServerConfig) -> Iterator[Finding]:
    """Looks at everything in order; a check that fails does not keep others from running."""
    folders = ServerFolders(config.folder)
    for name, check in CHECKS.items():
        yield examined(name, partial(check, config, folders))


def _state_folder(config: ServerConfig, folders: ServerFolders) -> str:
    folders.make()
    COORDINATOR_STATE.check(folders.root)
    return f"{folders.root} belongs to this user alone, schema {COORDINATOR_STATE.of(folders.root)}"


def _disk(config: ServerConfig, folders: ServerFolders) -> str | Doubt:
    free = shutil.disk_usage(folders.root).free // MEBIBYTE
    if free < LEAST_FREE_MB:
        fix = "Free space: rounds that absent hospitals still have to be told of are kept there."
        return Doubt(f"{free:,} MB free", fix, "FW-RESOURCE-302")
    return f"{free:,} MB free"


def _places(config: ServerConfig, folders: ServerFolders) -> str:
    return f"{check_places(folders.places())} places can be written"


def _keys(config: ServerConfig, folders: ServerFolders) -> str:
    identity = folders.identity()
    for path in (folders.journal_key, Authority(folders.keys).key, Authority(folders.keys).server_key):
        read_secret(path)
    return f"all here, for this user alone; the coordinator is {fingerprint(identity.public)}"


def _certificate(config: ServerConfig, folders: ServerFolders) -> str | Doubt:
    try:
        held = x509.load_pem_x509_certificate(Authority(folders.keys).server_certificate.read_bytes())
    except (OSError, ValueError) as error:
        message = "The certificate of the server cannot be read."
        raise AuthenticationError(message, code="FW-AUTH-306", fix="Run `fedward server renew`.") from error
    days = (held.not_valid_after_utc.timestamp() - time.time()) / DAY_SECONDS
    if days <= 0:
        message = "The certificate of the server has expired."
        raise AuthenticationError(message, code="FW-AUTH-306", fix="Run `fedward server renew`.")
    words = f"good for {days:.0f} more days"
    return Doubt(words, "Run `fedward server renew`.") if days < WARN_CERTIFICATE_DAYS else words


def _sites(config: ServerConfig, folders: ServerFolders) -> str | Doubt:
    sites = Sites(folders).all()
    admitted = [site for site in sites if site.state == "admitted"]
    old = [site.name for site in admitted if site.expires < time.time()]
    if old:
        return Doubt(f"certificates of {', '.join(old)} have expired", "They run `fedward client renew`.")
    return f"{len(admitted)} admitted, {len(sites) - len(admitted)} shut out"


def _runs(config: ServerConfig, folders: ServerFolders) -> str | Doubt:
    runs = Runs(folders)
    active = runs.next_open()
    if active is None:
        return "none is open"
    told = describe(runs, active)
    words = f"{active.name} is {told['state']}"
    if told["state"] != "waiting":
        return words
    words += f" for {missing_of(active.model_copy(update={'waits_for': told['waits_for']}))}"
    return Doubt(words, f"See `fedward explain {active.code or LostProcessError.code}`.", active.code)


def _door(config: ServerConfig, folders: ServerFolders) -> str:
    """The port is this coordinator's, which serves, or free."""
    with contextlib.suppress(FedwardError):
        return f"serving on {command(folders.control, 'status')['address'] or '(not yet)'}"
    listen = config.listen
    family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
    with socket.socket(family) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((listen.host, listen.port))
        except OSError as error:
            message = f"The port {listen.port} of {listen.host} cannot be taken ({error.strerror})."
            fix = "End what holds the port, or set listen.port in server.toml to another."
            raise ResourceError(message, code="FW-RESOURCE-211", fix=fix) from error
    return f"{listen.host}:{listen.port} is free"


CHECKS: dict[str, Check] = {
    "version": lambda *_: f"fedward {__version__}",
    "state folder": _state_folder,
    "disk": _disk,
    "places": _places,
    "keys": _keys,
    "certificate": _certificate,
    "hospitals": _sites,
    "runs": _runs,
    "door": _door,
}
