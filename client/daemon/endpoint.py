"""The coordinator, as this site reaches it."""

from __future__ import annotations

from fedward.client.daemon.folders import SiteFolders
from fedward.client.daemon.settings import ClientConfig
from fedward.client.link import Endpoint
from fedward.errors import AuthenticationError


def endpoint_of(config: ClientConfig, folders: SiteFolders) -> Endpoint:
    """Address, pinned CA, this site's certificate and the proxy of this connection.

    Raises:
        AuthenticationError: FW-AUTH-302, there is no CA to pin yet.
    """
    if not folders.ca.exists():
        raise AuthenticationError("This site has no CA of a coordinator.", code="FW-AUTH-302")
    return Endpoint(
        config.coordinator.address,
        root_certificates=folders.ca.read_bytes(),
        client_certificate=folders.certificate,
        proxy=config.coordinator.proxy,
    )
