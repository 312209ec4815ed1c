"""ETags of records, which are the revisions of their last change, and the conditions that edits are made under. Pure."""

import re

from meta.api.framework.problems import Refusal

ANY = "*"
_ETAG = re.compile(r'\s*(?:W/)?"([0-9]{1,15})"\s*', re.ASCII)


def etag(revision: int) -> str:
    return f'"{revision}"'


def expected(if_match: str, if_none_match: str) -> int | None:
    """The revision that must still be there: 0 when there must be nothing, None for whatever there is. Raises Refusal: an edit
    without a condition could undo what somebody else did meanwhile."""
    if if_match and if_none_match:
        raise Refusal(400, "give If-Match or If-None-Match, not both")
    if if_none_match:
        if if_none_match.strip() != ANY:
            raise Refusal(400, "If-None-Match of an edit must be *")
        return 0
    if not if_match:
        raise Refusal(428, "send If-Match with the ETag of what you edited, or If-None-Match: * to make it")
    if if_match.strip() == ANY:
        return None
    match = _ETAG.fullmatch(if_match)
    if not match:
        raise Refusal(400, 'If-Match must be one ETag, like "12", or *')
    return int(match[1])


def is_known(if_none_match: str, revision: int) -> bool:
    """Whether who asks has this already."""
    return any(tag.strip().removeprefix("W/") == etag(revision) for tag in if_none_match.split(","))
