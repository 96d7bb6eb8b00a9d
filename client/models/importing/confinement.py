"""Locked-down process: what a process that reads foreign files gives up before it opens the first one.

Limits of memory, time, file size and descriptors on every Unix. On Linux also new privileges, new programs and the
network, by a filter of system calls (seccomp, ``man 2 seccomp``) that needs no rights and cannot be taken off again.
"""

import contextlib
import ctypes
import platform
import resource
import struct
import sys
from dataclasses import dataclass

_PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _MODE_FILTER = 4, 38, 22, 2
_LOAD, _JUMP_IF_EQUAL, _JUMP_IF_AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050001  # the second gives EPERM
_X32 = 0x40000000
_MACHINES = {
    # audit number of the machine; socket, socketpair, connect, bind, execve, execveat, ptrace, process_vm_writev,
    # io_uring_setup, fork and vfork where they exist
    "x86_64": (0xC000003E, (41, 53, 42, 49, 59, 322, 101, 311, 425, 57, 58)),
    "aarch64": (0xC00000B7, (198, 199, 203, 200, 221, 281, 117, 271, 425)),
}


@dataclass(frozen=True)
class Limits:
    """What the process may use."""

    memory: int  # bytes of address space
    seconds: int  # of processor time
    file: int  # bytes of the largest file that it may write


def confine(limits: Limits) -> bool:
    """Gives up all that a reader of files does not need; whether the network is among it. Cannot be undone."""
    _limit(resource.RLIMIT_AS, limits.memory)
    _limit(resource.RLIMIT_CPU, limits.seconds)
    _limit(resource.RLIMIT_FSIZE, limits.file)
    _limit(resource.RLIMIT_NOFILE, 128)
    _limit(resource.RLIMIT_CORE, 0)
    return _filter_calls() if sys.platform == "linux" else False


def _limit(what: int, most: int) -> None:
    hard = resource.getrlimit(what)[1]
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    with contextlib.suppress(ValueError, OSError):  # macOS knows no limit of address space
        resource.setrlimit(what, (most, most))


def _filter_calls() -> bool:
    machine = _MACHINES.get(platform.machine())
    library = ctypes.CDLL(None, use_errno=True)
    library.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    if machine is None or library.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        return False
    audit, calls = machine
    steps = [(_LOAD, 0, 0, 4), (_JUMP_IF_EQUAL, 1, 0, audit), (_RETURN, 0, 0, _REFUSE), (_LOAD, 0, 0, 0)]
    steps += [(_JUMP_IF_AT_LEAST, 0, 1, _X32), (_RETURN, 0, 0, _REFUSE)]
    for call in calls:
        steps += [(_JUMP_IF_EQUAL, 0, 1, call), (_RETURN, 0, 0, _REFUSE)]
    steps.append((_RETURN, 0, 0, _ALLOW))
    code = b"".join(struct.pack("=HBBI", *step) for step in steps)
    held = ctypes.create_string_buffer(code, len(code))
    program = ctypes.create_string_buffer(struct.pack("@HP", len(steps), ctypes.addressof(held)))
    return not library.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(program), 0, 0)
