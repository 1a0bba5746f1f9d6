"""Whether there are matrix units (Intel's AMX) that multiply bfloat16, and the system's leave to use them.

Linux gives a process the room for their registers when it asks for it. Where it refuses, or the code is
compiled for another processor, there are none. Not here: what is done with them (`tiles`).
"""

from __future__ import annotations

import ctypes
import platform
import sys
from functools import cache

from daulat.engine.native.panels import processor_has

_NEEDED = ("amx-tile", "amx-bf16", "avx512bf16", "avx512bw", "avx512vbmi")
_ARCH_PRCTL, _ASK_FOR, _TILE_DATA = 158, 0x1023, 18
"""The system call's number on x86-64, ARCH_REQ_XCOMP_PERM, and the registers' number (Linux,
Documentation/arch/x86/xstate.rst)."""


def compiled() -> bool:
    """Whether the processor that code is compiled for has them; for others it could not even be compiled."""
    return all(processor_has(feature) for feature in _NEEDED)


@cache
def there() -> bool:
    """Whether code with `tiles` can be compiled and run here. Asks the system, once for all threads."""
    if not compiled():
        return False
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return False
    return ctypes.CDLL(None).syscall(_ARCH_PRCTL, _ASK_FOR, _TILE_DATA) == 0
