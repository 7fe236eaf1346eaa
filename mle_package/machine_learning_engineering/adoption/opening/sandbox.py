"""Walls around the process that opens a foreign file: limits of the kernel, as many as it grants.

They are the second defence: the first is that nothing in the file runs. Limits of memory, time and written bytes hold
on any POSIX system. On Linux, the process also leaves the network (a namespace of its own), and gives up the system
calls that open a socket, start a program or write a file. It reads what its user may read: it is no container.
"""

import ctypes
import os
import platform
import struct
import sys
from contextlib import suppress

_NEW_USER_AND_NET = 0x10000000 | 0x40000000
_NO_NEW_PRIVILEGES, _SECCOMP, _FILTER = 38, 22, 2
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050000 | 1  # EPERM
_NO_SUCH_CALL = 0x00050000 | 38
_CLONE_THREAD = 0x00010000
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
# Architecture, denied calls (socket, connect, bind, sendto, execve, execveat, ptrace, fork, vfork, kill, unlink, rename
# and the like), clone, clone3, open (0: there is none), openat.
_CALLS = {
    "x86_64": (
        0xC000003E,
        (41, 42, 49, 44, 59, 322, 101, 57, 58, 62, 82, 83, 84, 85, 86, 87, 88, 90, 92, 263, 264, 316, 258, 437),
        56,
        435,
        2,
        257,
    ),
    "aarch64": (0xC00000B7, (198, 203, 200, 206, 221, 281, 117, 129, 34, 35, 36, 37, 38, 276, 437), 220, 435, 0, 56),
}


def limit(memory: int, seconds: int) -> None:
    """Limit memory, processor time and written bytes of this process, and leave the network where that is possible."""
    import resource

    for kind, value in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        with suppress(ValueError, OSError):  # macOS knows no limit of addresses.
            resource.setrlimit(kind, (value, value))
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).unshare(_NEW_USER_AND_NET)


def close_doors() -> bool:
    """Give up system calls for sockets, programs and files to write. To be called after the last import.

    Returns:
        Whether the kernel has granted it.
    """
    known = _CALLS.get(platform.machine()) if sys.platform == "linux" else None
    if known is None:
        return False
    program = _program(*known)
    content = b"".join(struct.pack("HBBI", *one) for one in program)
    buffer = ctypes.create_string_buffer(content, len(content))

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0) != 0:
        return False
    filters = Program(len(program), ctypes.cast(buffer, ctypes.c_void_p))
    return bool(libc.prctl(_SECCOMP, _FILTER, ctypes.byref(filters), 0, 0) == 0)


def _program(
    architecture: int, denied: tuple[int, ...], clone: int, clone3: int, opening: int, opening_at: int
) -> list[tuple[int, int, int, int]]:
    """A program of the Berkeley packet filter over (number, architecture, arguments) of a system call."""
    load, equal, any_bit, answer = 0x20, 0x15, 0x45, 0x06
    steps = [(load, 0, 0, 4), (equal, 1, 0, architecture), (answer, 0, 0, _REFUSE), (load, 0, 0, 0)]
    for number in denied:
        steps += [(equal, 0, 1, number), (answer, 0, 0, _REFUSE)]
    steps += [(equal, 0, 1, clone3), (answer, 0, 0, _NO_SUCH_CALL)]
    # Threads are needed, processes are not.
    steps += [(equal, 0, 4, clone), (load, 0, 0, 16), (any_bit, 1, 0, _CLONE_THREAD), (answer, 0, 0, _REFUSE)]
    steps += [(answer, 0, 0, _ALLOW)]
    # Offsets of the flags: the second argument of open, the third of openat.
    for number, flags in ((opening, 24), (opening_at, 32)):
        steps += [(equal, 0, 4, number), (load, 0, 0, flags), (any_bit, 0, 1, _WRITING), (answer, 0, 0, _REFUSE)]
        steps += [(answer, 0, 0, _ALLOW)]
    return [*steps, (answer, 0, 0, _ALLOW)]
