"""What meta says in the body of an error, on one line: the text of a problem, plain text as it is, and nothing of a page."""

from contextlib import suppress

import msgspec

from updater.net.http import Response
from updater.wire.text import one_line

LIMIT = 64 << 10  # bytes of a body


class _Problem(msgspec.Struct):
    """An error response of meta (RFC 9457)."""

    detail: str = ""
    title: str = ""


def in_words(answer: Response) -> str:
    """`WHO answered STATUS: TEXT`, without the text if that is HTML, as a proxy answers in meta's place."""
    body = answer.read(LIMIT)
    text = body.decode("utf-8", "replace").strip()
    with suppress(msgspec.MsgspecError, UnicodeError, RecursionError):
        problem = msgspec.json.decode(body, type=_Problem)
        text = problem.detail or problem.title or text
    said = "" if text.startswith("<") else one_line(text, 200)
    return f"{answer.way} answered {answer.status}{said and f': {said}'}"
