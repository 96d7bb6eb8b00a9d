"""Another user of this machine, as far as a test that runs as root can play one."""

import os
import socket

import pytest

NOBODY = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


def bytes_answered(port: int, said: bytes, user: int | None = None) -> int:
    """How many bytes a process of ``user`` (this one if None) is answered by the ``port`` on loopback, up to 9."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:  # nothing of the parent may run here
        told = 0
        try:
            if user is not None:
                os.setresuid(user, user, user)
            with socket.create_connection(("127.0.0.1", port), timeout=60) as link:
                link.sendall(said)
                told = len(link.recv(9))
        except ConnectionError:
            told = 0
        finally:
            os.write(writer, bytes([told]))
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        told = pipe.read(1)
    os.waitpid(child, 0)
    return told[0]
