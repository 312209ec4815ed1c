"""The identity of the current boot: process ids, and times since the boot, are valid within it only."""

import os
from pathlib import Path

from updater.kernel import procfs

_INIT = 1
_OF_THE_MACHINE = 60  # seconds after the boot; a first process that started later is a container's


def boot_id() -> str:
    """The id of the machine's current boot, the same in all its containers; "" if the kernel does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def boot_here() -> str:
    """The id of the current boot of the machine or, in a container, of the container's current start.

    When a container restarts, its processes end although the machine keeps running.
    """
    init = procfs.read("/proc", _INIT)
    ticks = int(init.start) if init else 0
    is_machine_s = ticks < _OF_THE_MACHINE * os.sysconf("SC_CLK_TCK")
    return boot_id() if is_machine_s else f"{boot_id()}.{ticks}"
