"""System calls that the code of a training plan has no use for, refused by the kernel (seccomp) in its process.

Landlock (:mod:`hanse.node.cage`) looks at files, and a namespace shuts the network. What is left: sockets of other
programs that lie in the file system, which Landlock does not see (a container engine's is the whole machine); other
processes, new ones, and what root may ask of a kernel. All of it is answered with EPERM. A plan may have threads, not
processes: a limit on those would not hold for root.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import platform
import struct
from collections.abc import Mapping
from dataclasses import dataclass

_SET_SECCOMP, _GET_SECCOMP, _FILTER = 22, 21, 2
_ALLOW, _ERROR, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_LOAD, _EQUAL, _AT_LEAST, _AND, _ANY_OF, _RETURN = 0x20, 0x15, 0x35, 0x54, 0x45, 0x06
_NUMBER, _ARCHITECTURE, _FIRST, _SECOND = 0, 4, 16, 24  # where they stand in struct seccomp_data, little-endian
_CLONE_THREAD, _STREAM, _TYPE = 0x10000, 1, 0xF
_X32 = 0x40000000
_SAME = {  # of all architectures that the kernel has taken up since 2019
    "pidfd_send_signal": 424,
    "io_uring_setup": 425,
    "io_uring_enter": 426,
    "io_uring_register": 427,
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "fspick": 433,
    "pidfd_open": 434,
    "pidfd_getfd": 438,
    "process_madvise": 440,
    "mount_setattr": 442,
}


@dataclass(frozen=True, slots=True)
class _Machine:
    """How one architecture numbers its calls."""

    architecture: int
    clone: int
    socketpair: int
    refused: Mapping[str, int]


_MACHINES = {
    "x86_64": _Machine(
        0xC000003E,
        clone=56,
        socketpair=53,
        refused={
            "socket": 41,
            "connect": 42,
            "bind": 49,
            "listen": 50,
            "fork": 57,
            "vfork": 58,
            "ptrace": 101,
            "syslog": 103,
            "pivot_root": 155,
            "adjtimex": 159,
            "chroot": 161,
            "acct": 163,
            "settimeofday": 164,
            "mount": 165,
            "umount2": 166,
            "swapon": 167,
            "swapoff": 168,
            "reboot": 169,
            "sethostname": 170,
            "setdomainname": 171,
            "iopl": 172,
            "ioperm": 173,
            "init_module": 175,
            "delete_module": 176,
            "quotactl": 179,
            "clock_settime": 227,
            "kexec_load": 246,
            "add_key": 248,
            "request_key": 249,
            "keyctl": 250,
            "unshare": 272,
            "perf_event_open": 298,
            "name_to_handle_at": 303,
            "open_by_handle_at": 304,
            "clock_adjtime": 305,
            "setns": 308,
            "process_vm_readv": 310,
            "process_vm_writev": 311,
            "kcmp": 312,
            "finit_module": 313,
            "kexec_file_load": 320,
            "bpf": 321,
            "userfaultfd": 323,
        },
    ),
    "aarch64": _Machine(
        0xC00000B7,
        clone=220,
        socketpair=199,
        refused={
            "umount2": 39,
            "mount": 40,
            "pivot_root": 41,
            "chroot": 51,
            "quotactl": 60,
            "acct": 89,
            "unshare": 97,
            "kexec_load": 104,
            "init_module": 105,
            "delete_module": 106,
            "clock_settime": 112,
            "syslog": 116,
            "ptrace": 117,
            "reboot": 142,
            "sethostname": 161,
            "setdomainname": 162,
            "settimeofday": 170,
            "adjtimex": 171,
            "socket": 198,
            "bind": 200,
            "listen": 201,
            "connect": 203,
            "add_key": 217,
            "request_key": 218,
            "keyctl": 219,
            "swapon": 224,
            "swapoff": 225,
            "perf_event_open": 241,
            "name_to_handle_at": 264,
            "open_by_handle_at": 265,
            "clock_adjtime": 266,
            "setns": 268,
            "process_vm_readv": 270,
            "process_vm_writev": 271,
            "kcmp": 272,
            "finit_module": 273,
            "bpf": 280,
            "userfaultfd": 282,
            "kexec_file_load": 294,
        },
    ),
}
_CLONE3 = 435


@functools.cache
def available() -> bool:
    """Whether this machine's calls are known here, and its kernel can refuse some."""
    return platform.machine() in _MACHINES and ctypes.CDLL(None).prctl(_GET_SECCOMP, 0, 0, 0, 0) >= 0


def refuse() -> None:
    """Refuses them in this process from here on, and in all that it starts. To be called before threads are started,
    by a process that has given up new privileges (:func:`hanse.node.cage.shut`).

    Raises ``OSError`` where that was not taken: the process is not to go on.
    """
    machine = _MACHINES.get(platform.machine())
    if machine is None:
        raise OSError(errno.ENOSYS, "the system calls of this machine are not known")
    program = _program(machine)
    kept = ctypes.create_string_buffer(program, len(program))
    told = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(kept))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_SET_SECCOMP, ctypes.c_ulong(_FILTER), told, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "the system calls could not be refused")


def _program(machine: _Machine) -> bytes:
    """For the kernel's classic BPF: each call is answered at its own place, so no jump is longer than the next."""
    no = _do(_RETURN, _ERROR | errno.EPERM)
    lines = [
        _do(_LOAD, _ARCHITECTURE),
        _do(_EQUAL, machine.architecture, 1, 0),
        _do(_RETURN, _KILL),  # the same call has another number there
        _do(_LOAD, _NUMBER),
    ]
    if machine.architecture == _MACHINES["x86_64"].architecture:
        lines += [_do(_AT_LEAST, _X32, 0, 1), no]
    for number in (*machine.refused.values(), *_SAME.values()):
        lines += [_do(_EQUAL, number, 0, 1), no]
    lines += [_do(_EQUAL, _CLONE3, 0, 1), _do(_RETURN, _ERROR | errno.ENOSYS)]  # its flags cannot be read; clone's can
    lines += [
        _do(_EQUAL, machine.clone, 0, 4),
        _do(_LOAD, _FIRST),
        _do(_ANY_OF, _CLONE_THREAD, 1, 0),
        no,
        _do(_RETURN, _ALLOW),
        _do(_EQUAL, machine.socketpair, 0, 4),  # one for datagrams could send to any address
        _do(_LOAD, _SECOND),
        _do(_AND, _TYPE),
        _do(_EQUAL, _STREAM, 1, 0),
        no,
    ]
    return b"".join([*lines, _do(_RETURN, _ALLOW)])


def _do(code: int, value: int, then: int = 0, otherwise: int = 0) -> bytes:
    return struct.pack("HBBI", code, then, otherwise, value)
