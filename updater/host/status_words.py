"""Finds the status in a control script's output as a person at a terminal would read it. Pure.

The status is the last line that is not blank. Scripts print warnings and progress before it, and colours, carriage returns and
blanks around it. A sequence that turns colours off (`tput sgr0`) may even follow the line's end.
"""

import re

from updater.wire.text import one_line

_SEQUENCES = re.compile(
    r"""
    (?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]                 # colours, the cursor (ECMA-48, 5.4)
    | (?:\x1b[PX\]^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c|$)  # a window's title, a link (5.6)
    | \x1b[ -/]*[0-~]                                # two or three letters: `ESC ( B`, `ESC c` (ECMA-35, 13.2)
    | [\x00-\x08\x0e-\x1f\x7f\ufeff]                 # a bell, shift in and out, a byte order mark
    """,
    re.VERBOSE | re.MULTILINE,
)
_LINE_ENDS = re.compile(r"[\r\n]")  # after a carriage return the terminal writes over what was there


def last_line(text: str) -> str:
    """The last line that is not blank, without characters that a terminal does not show; "" if there is none."""
    lines = (line.strip() for line in _LINE_ENDS.split(_SEQUENCES.sub("", text)))
    return next((line for line in reversed(list(lines)) if line), "")


def with_evidence(line: str, errors: str, limit: int) -> str:
    """An unknown status for a report: the line and the last line of stderr, at most `limit` characters."""
    if not (said := last_line(errors)):
        return one_line(line, limit)
    return one_line(f"{one_line(line, limit // 3) or 'nothing'} (stderr: {one_line(said, limit // 2)})", limit)
