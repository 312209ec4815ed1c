"""Parses durations in options and settings of both programs. Pure; ambiguous forms are refused."""

import re

_FORM = re.compile(r"([0-9]{1,9})\s?(s|min|m|h|d|w)?", re.ASCII)
_SECONDS = {None: 1, "s": 1, "min": 60, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def duration(text: str, bare: bool = False) -> float | None:
    """`30d`, `12h`, `15min`, `90s` -> seconds; None if it is not a duration. bare: a number alone is seconds."""
    match = _FORM.fullmatch(text)
    return float(int(match[1]) * _SECONDS[match[2]]) if match and (match[2] or bare) else None
