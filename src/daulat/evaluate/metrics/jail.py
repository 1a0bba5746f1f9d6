"""A cell for a stranger's program: a process that locks itself in and then becomes that program.

Run as `python -I -S jail.py CONFIG` with the program's own standard input; nothing of Daulat is imported.
CONFIG is JSON: {"command", "show", "limits", "seconds", "verdict", "namespaces"}. What it says on standard
output is JSON too: {"ended": "exit" | "signal" | "time", "code"} or {"setup": why the cell could not be
made}.

With namespaces (Linux 5.12 or later; unshare(2), mount_setattr(2), pivot_root(2), user_namespaces(7)) the
program
- has a network without a device, not even a loopback that is up;
- sees a file system in memory, of bounded size, in which only the folders of `show` stand, read-only;
- sees and can signal no process but its own; all of them end with it;
- has no capability and can get none (no_new_privs); where root starts it, it is a user that owns nothing.

In any case it has the limits of setrlimit(2), a bare environment, no open file but its input and the
verdict's, and ends when its time is over. What this does not hold against: faults of the kernel, whose system
calls are all open.

Not here: what is run and what its verdict means (`code`).
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import resource
import signal
import sys
from collections.abc import Callable
from typing import Any, Final, NoReturn

_NEWNS, _NEWUTS, _NEWIPC, _NEWUSER, _NEWPID, _NEWNET = (
    *(0x20000, 0x4000000, 0x8000000),
    *(0x10000000, 0x20000000, 0x40000000),
)
_APART: Final = _NEWNS | _NEWUTS | _NEWIPC | _NEWPID | _NEWNET
_NOSUID, _NODEV, _BIND, _REC, _PRIVATE, _DETACH = 2, 4, 0x1000, 0x4000, 1 << 18, 2
_SET_PDEATHSIG, _CAPBSET_DROP, _SET_SECUREBITS, _SET_NO_NEW_PRIVS = 1, 24, 28, 38
_NOROOT_LOCKED: Final = 0b11 | 0b1100
"""No capabilities for uid 0, none kept through a change of uid; and no way back."""
_MOUNT_SETATTR: Final = 442
_RECURSIVE: Final = 0x8000
_ATTR_RDONLY, _ATTR_NOSUID, _ATTR_NODEV = 1, 2, 4
_PIVOT_ROOT: Final = {"x86_64": 155, "aarch64": 41, "riscv64": 41, "ppc64le": 203, "s390x": 217}
_FIRST_UID: Final = 1_900_000_000
"""From here on there are users that own nothing."""
_DEVICES: Final = ("null", "zero", "full", "random", "urandom")
_OWN: Final = "/tmp"  # noqa: S108 - of the cell alone
_SIZE: Final = "size=64m,nr_inodes=16k,mode=755"

_LIMITS: Final = {
    "cpu": resource.RLIMIT_CPU,
    "memory": resource.RLIMIT_AS,
    "file": resource.RLIMIT_FSIZE,
    "files": resource.RLIMIT_NOFILE,
    "processes": resource.RLIMIT_NPROC,
}

libc = ctypes.CDLL(None, use_errno=True)


class SetupError(Exception):
    """The cell could not be made."""


def main() -> None:
    """Lock in, run, say how it ended."""
    config: dict[str, Any] = json.loads(sys.argv[1])
    try:
        # If whoever started us is gone, so is the program.
        _prctl(_SET_PDEATHSIG, signal.SIGTERM)
        locked = _apart(config["root"]) if config["namespaces"] else None
        child = os.fork()
        if child == 0:
            _inside(config, locked)
        told = _watch(child, config["seconds"])
    except (SetupError, OSError) as error:
        told = {"setup": str(error)}
    print(json.dumps(told), flush=True)


def _watch(child: int, seconds: float) -> dict[str, Any]:
    """Wait for the child, and end it when its time is over or ours is."""
    late = False

    def end(number: int, _frame: object) -> None:
        nonlocal late
        late = late or number == signal.SIGALRM
        os.kill(child, signal.SIGKILL)

    signal.signal(signal.SIGALRM, end)
    signal.signal(signal.SIGTERM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    _pid, status = os.waitpid(child, 0)
    signal.setitimer(signal.ITIMER_REAL, 0)
    if late:
        return {"ended": "time", "code": 0}
    code = os.waitstatus_to_exitcode(status)
    if code == _SETUP_FAILED:
        return {"setup": "its file system could not be made"}
    # The first process of a cell hands on how the program ended: 128 and a signal's number.
    if code > 128 or code < 0:
        return {"ended": "signal", "code": code - 128 if code > 128 else -code}
    return {"ended": "exit", "code": code}


_SETUP_FAILED: Final = 125


def _inside(config: dict[str, Any], lock: Callable[[dict[str, Any]], None] | None) -> NoReturn:
    """In the child: the first process of the cell, which waits for the program."""
    try:
        if lock is not None:
            lock(config)
            program = os.fork()
            if program:
                _reap(program)
        else:
            os.chdir(config["root"])
        _become(config)
    except BaseException as error:
        os.write(2, str(error).encode()[:500])
        os._exit(_SETUP_FAILED)


def _reap(program: int) -> NoReturn:
    """The first process: when the program has ended, all that it left behind ends."""
    os.closerange(0, 3)
    while True:
        pid, status = os.wait()
        if pid == program:
            code = os.waitstatus_to_exitcode(status)
            os._exit(code if code >= 0 else 128 - code)


def _become(config: dict[str, Any]) -> NoReturn:
    for name, most in config["limits"].items():
        resource.setrlimit(_LIMITS[name], (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    verdict: int = config["verdict"]
    os.set_inheritable(verdict, True)
    os.closerange(3, verdict)
    os.closerange(verdict + 1, 4096)
    nothing = os.open("/dev/null", os.O_RDWR)
    os.dup2(nothing, 1)
    os.dup2(nothing, 2)
    environment = {"HOME": _OWN, "TMPDIR": _OWN, "LANG": "C.UTF-8", "PATH": "/usr/bin:/bin"}
    command: list[str] = config["command"]
    os.execve(command[0], command, environment)  # noqa: S606 - that is what it is for


# --- namespaces -----------------------------------------------------------------------------------


def _apart(root: str) -> Callable[[dict[str, Any]], None]:
    """Leave all that is shared; what the first process inside has to do then.

    Root needs no namespace of users for that, and becomes nobody in particular afterwards. Anybody else is
    root in a namespace of users for as long as it takes, which maps to nobody but himself outside.
    """
    if platform.machine() not in _PIVOT_ROOT:
        raise SetupError(f"unknown processor {platform.machine()}")
    uid, gid = os.getuid(), os.getgid()
    if uid == 0 and libc.unshare(_APART) == 0:
        return lambda config: _lock(config, root, _FIRST_UID + os.getppid() % 100_000_000)
    _check(libc.unshare(_APART | _NEWUSER), "no namespaces for this user")
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
            file.write(text)
    # Namespaces of users within this one would open what is closed here.
    with open("/proc/sys/user/max_user_namespaces", "w", encoding="ascii") as file:
        file.write("0")
    return lambda config: _lock(config, root, 0)


def _lock(config: dict[str, Any], root: str, uid: int) -> None:
    _prctl(_SET_PDEATHSIG, signal.SIGKILL)
    _check(libc.mount(b"none", b"/", None, _REC | _PRIVATE, None), "mount private")
    _check(libc.mount(b"tmpfs", root.encode(), b"tmpfs", _NOSUID, _SIZE.encode()), "mount tmpfs")
    for path in config["show"]:
        _show(path, root)
    os.makedirs(f"{root}/dev", 0o755, exist_ok=True)
    for name in _DEVICES:
        os.close(os.open(f"{root}/dev/{name}", os.O_CREAT | os.O_WRONLY, 0o666))
        _bind(f"/dev/{name}", f"{root}/dev/{name}")
    own = root + _OWN
    os.makedirs(own, exist_ok=True)
    os.chmod(own, 0o1777)  # noqa: S103 - a folder of the cell alone
    os.chdir(root)
    _check(libc.syscall(_PIVOT_ROOT[platform.machine()], b".", b"."), "pivot_root")
    _check(libc.umount2(b".", _DETACH), "umount")
    os.chdir(_OWN)
    if uid:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    else:
        _check(libc.prctl(_SET_SECUREBITS, _NOROOT_LOCKED, 0, 0, 0), "securebits")
        for capability in range(64):
            if libc.prctl(_CAPBSET_DROP, capability, 0, 0, 0) != 0:
                break
    _prctl(_SET_NO_NEW_PRIVS, 1)


def _show(path: str, root: str) -> None:
    """Let a folder stand in the cell, read-only; what is a link stays one."""
    if os.path.islink(path):
        os.makedirs(os.path.dirname(root + path), 0o755, exist_ok=True)
        os.symlink(os.readlink(path), root + path)
    elif os.path.isdir(path):
        os.makedirs(root + path, 0o755, exist_ok=True)
        _bind(path, root + path)
        _read_only(root + path)


def _bind(source: str, target: str) -> None:
    _check(
        libc.mount(source.encode(), target.encode(), None, _BIND | _REC, None), f"mount {source}"
    )


def _read_only(path: str) -> None:
    wanted = (ctypes.c_uint64 * 4)(_ATTR_RDONLY | _ATTR_NOSUID | _ATTR_NODEV, 0, 0, 0)
    size = ctypes.sizeof(wanted)
    done = libc.syscall(_MOUNT_SETATTR, -100, path.encode(), _RECURSIVE, ctypes.byref(wanted), size)
    _check(done, f"read-only {path}")


def _prctl(what: int, value: int) -> None:
    _check(libc.prctl(what, value, 0, 0, 0), f"prctl {what}")


def _check(result: int, what: str) -> None:
    if result != 0:
        raise SetupError(f"{what}: {os.strerror(ctypes.get_errno())}")


if __name__ == "__main__":
    main()
