"""Notification of systemd about a service (sd_notify(3)): one datagram, and silence where nobody listens."""

import contextlib
import os
import socket


def notify(state: str) -> bool:
    """Sends ``state``, for example ``READY=1``; says whether there was a service manager to send it to."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    target = "\0" + address[1:] if address.startswith("@") else address
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        sock.sendto(state.encode(), target)
        return True
    return False
