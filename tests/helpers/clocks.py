"""Clocks that are wrong, for single processes: libfaketime, Debian's package, loaded before the C library."""

import os
from pathlib import Path

import pytest

_LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))


def clock(offset: str) -> dict[str, str]:
    """The environment of a process whose wall clock goes this much wrong: `+2h`, `-7s`."""
    return _preloaded() | {"FAKETIME": offset}


def settable_clock(file: Path, offset: str = "+0s") -> dict[str, str]:
    """The same of one whose clock is wrong by what the file says, at any time; its monotonic clock is right."""
    file.write_text(f"{offset}\n")
    monotonic = {"FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1"}
    return _preloaded() | monotonic | {"FAKETIME_TIMESTAMP_FILE": str(file), "FAKETIME_NO_CACHE": "1"}


def _preloaded() -> dict[str, str]:
    if not _LIBRARIES and "CI" not in os.environ:
        pytest.skip("no libfaketime here")
    assert _LIBRARIES, "no libfaketime here"
    return {"LD_PRELOAD": str(_LIBRARIES[0])}
