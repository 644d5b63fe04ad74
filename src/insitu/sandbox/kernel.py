"""The few system calls that Python's standard library does not offer.

Through ctypes and the C library, so that a reviewer can read all of it. Each
function raises OSError with the call's name; none returns a status that could
be ignored. Sources: namespaces(7), capabilities(7), prctl(2), seccomp(2).
"""

from __future__ import annotations

import ctypes
import os
import struct

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_SECCOMP = 22
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_SECCOMP_MODE_FILTER = 2
_CAPABILITY_VERSION_3 = 0x20080522
_CAP_LAST_POSSIBLE = 63

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_REMOUNT = 1, 2, 4, 32
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18

# The same numbers on every architecture that we run on (include/uapi/asm-generic/unistd.h).
_SYS_OPEN_TREE, _SYS_MOVE_MOUNT, _SYS_MOUNT_SETATTR = 428, 429, 442
_OPEN_TREE_CLONE, _OPEN_TREE_CLOEXEC = 1, os.O_CLOEXEC
_MOVE_MOUNT_F_EMPTY_PATH = 4
_AT_FDCWD, _AT_SYMLINK_NOFOLLOW, _AT_EMPTY_PATH, _AT_RECURSIVE = -100, 0x100, 0x1000, 0x8000
_MOUNT_ATTR_RDONLY, _MOUNT_ATTR_NOSUID, _MOUNT_ATTR_NODEV = 1, 2, 4

_libc = ctypes.CDLL(None, use_errno=True)


def unshare(flags: int) -> None:
    _check(_libc.unshare(flags), "unshare")


def setns(descriptor: int, kind: int) -> None:
    _check(_libc.setns(descriptor, kind), "setns")


def mount(source: str, target: str, kind: str, flags: int, options: str = "") -> None:
    arguments = [os.fsencode(word) for word in (source, target, kind)]
    _check(_libc.mount(*arguments, ctypes.c_ulong(flags), os.fsencode(options)), "mount")


def copy_of_tree(source: str) -> int:
    """A descriptor of what lies at `source` as a mount that is nowhere yet. A link is not followed. Linux 5.2, root."""
    flags = _OPEN_TREE_CLONE | _OPEN_TREE_CLOEXEC | _AT_RECURSIVE | _AT_SYMLINK_NOFOLLOW
    return _syscall(f"open_tree({source})", _SYS_OPEN_TREE, _AT_FDCWD, os.fsencode(source), flags)


def can_attach_trees() -> bool:
    """Whether `copy_of_tree` and `attach_tree` are there and ours to use."""
    try:
        descriptor = copy_of_tree("/")
    except OSError:
        return False
    try:
        _set_attributes(descriptor, b"", _AT_EMPTY_PATH, _MOUNT_ATTR_RDONLY, 0)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def attach_tree(descriptor: int, target: str, *, read_only: bool) -> None:
    """Mount a `copy_of_tree` here, private, without set-uid programs and devices. Linux 5.12."""
    attributes = _MOUNT_ATTR_NOSUID | _MOUNT_ATTR_NODEV | (_MOUNT_ATTR_RDONLY if read_only else 0)
    _set_attributes(descriptor, b"", _AT_EMPTY_PATH | _AT_RECURSIVE, attributes, MS_PRIVATE)
    to = (_AT_FDCWD, os.fsencode(target), _MOVE_MOUNT_F_EMPTY_PATH)
    _syscall("move_mount", _SYS_MOVE_MOUNT, descriptor, b"", *to)


def make_read_only(target: str) -> None:
    """The mount at `target` alone, not what is mounted below it. Linux 5.12."""
    _set_attributes(_AT_FDCWD, os.fsencode(target), 0, _MOUNT_ATTR_RDONLY, 0)


def _set_attributes(descriptor: int, path: bytes, flags: int, attributes: int, propagation: int) -> None:
    # struct mount_attr { __u64 attr_set, attr_clr, propagation, userns_fd; }
    wanted = struct.pack("=4Q", attributes, 0, propagation, 0)
    _syscall("mount_setattr", _SYS_MOUNT_SETATTR, descriptor, path, flags, wanted, len(wanted))


def set_no_new_privileges() -> None:
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def set_undumpable() -> None:
    """Nobody of the same uid may look into this process through /proc or ptrace."""
    _prctl(_PR_SET_DUMPABLE, 0)


def die_with_parent() -> None:
    """SIGKILL for this process when its parent ends. Cleared by a change of uid: ask after it."""
    _prctl(_PR_SET_PDEATHSIG, 9)


def clear_bounding_set() -> None:
    """No program started from here can have a capability, whoever it runs as. Needs CAP_SETPCAP."""
    for capability in range(_CAP_LAST_POSSIBLE + 1):
        if _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) != 0:
            if ctypes.get_errno() == 22 and capability > 0:  # EINVAL: past the kernel's last one
                return
            _check(-1, "prctl(PR_CAPBSET_DROP)")


def drop_capabilities() -> None:
    """This process has none: not permitted, effective, inheritable or ambient."""
    _libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)  # EINVAL before Linux 4.3: there were none
    header = ctypes.create_string_buffer(struct.pack("=Ii", _CAPABILITY_VERSION_3, 0))
    nothing = ctypes.create_string_buffer(struct.pack("=6I", 0, 0, 0, 0, 0, 0))
    _check(_libc.capset(header, nothing), "capset")


def load_filter(program: bytes) -> None:
    """A seccomp filter for this process and all it starts, for good. Needs no_new_privs."""
    instructions = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog { unsigned short len; struct sock_filter *filter; }, with native padding
    wrapper = ctypes.create_string_buffer(struct.pack("@HP", len(program) // 8, ctypes.addressof(instructions)))
    _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(wrapper))


def _syscall(name: str, number: int, *arguments: int | bytes) -> int:
    typed = [ctypes.c_long(each) if isinstance(each, int) else ctypes.c_char_p(each) for each in arguments]
    found = _libc.syscall(ctypes.c_long(number), *typed)
    _check(min(found, 0), name)
    return found


def _prctl(option: int, *arguments: int) -> None:
    padded = [ctypes.c_ulong(value) for value in (*arguments, 0, 0, 0, 0)[:4]]
    _check(_libc.prctl(option, *padded), f"prctl({option})")


def _check(status: int, call: str) -> None:
    if status != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{call}: {os.strerror(number)}")
