"""ETags of records (the revision of the last change) and the conditions of edits. Pure."""

import re

from meta.api.framework.problems import Refusal

ANY = "*"
_ETAG = re.compile(r'\s*(?:W/)?"([0-9]{1,15})"\s*', re.ASCII)


def etag(revision: int) -> str:
    """Return the ETag of a revision."""
    return f'"{revision}"'


def expected(if_match: str, if_none_match: str) -> int | None:
    """The expected revision: 0 if the record must not exist, None for any.

    Raises Refusal, also without a condition, since such an edit could undo another one.
    """
    if if_match and if_none_match:
        raise Refusal(400, "give If-Match or If-None-Match, not both")
    if if_none_match:
        if if_none_match.strip() != ANY:
            raise Refusal(400, "If-None-Match of an edit must be *")
        return 0
    if not if_match:
        raise Refusal(428, "send If-Match with the ETag of what you edited, or If-None-Match: * to create it")
    if if_match.strip() == ANY:
        return None
    match = _ETAG.fullmatch(if_match)
    if not match:
        raise Refusal(400, 'If-Match must be one ETag, like "12", or *')
    return int(match[1])


def is_known(if_none_match: str, revision: int) -> bool:
    """Whether the client already has this revision."""
    return any(tag.strip().removeprefix("W/") == etag(revision) for tag in if_none_match.split(","))
