"""Who asks, and whether he may: tokens of operators and hosts, their roles, and the rules that routes have.

Only a token's SHA-256 is kept; its text exists once, in the answer that makes it. Everything is judged from memory: `replace`
swaps all tokens at once, so a revoked one stops in that moment. A token that is shown and not known is refused everywhere,
never treated as none.
"""

import hmac
import threading
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from hashlib import sha256
from secrets import token_urlsafe
from typing import TYPE_CHECKING, NamedTuple

from meta.errors import MetaError

if TYPE_CHECKING:
    from meta.store import Token

OPERATOR, ENROLMENT, HOST = "operator", "enrolment", "host"  # kinds of a token
VIEWER, EDITOR, ADMIN = "viewer", "editor", "admin"  # roles of an operator, each may do what those before it may
ROLES = (VIEWER, EDITOR, ADMIN)
MAX_HEADER = 512  # characters of an Authorization header
_LETTERS = {OPERATOR: "o", ENROLMENT: "e", HOST: "h"}


class Unauthorised(MetaError):
    """The token that was shown is none of ours, is revoked, has expired, or is somebody else's."""


class Principal(NamedTuple):
    """Who asks. role: viewer, editor, admin, host (name is its hostname), enrolment, or "" for nobody; id: of the token."""

    name: str = ""
    role: str = ""
    id: int = 0


NOBODY = Principal()


class Rule(Enum):
    """Who may use a route."""

    PUBLIC = "everybody"
    LOCAL = "who asks on this machine itself, whatever his token"
    READ = "any operator or host; without a token where anonymous hosts are allowed"
    VIEWER = "operators"
    EDITOR = "editors and admins"
    ADMIN = "admins"
    ENROL = "who shows an enrolment token"


class Verdict(Enum):
    """The value is the HTTP status of the refusal, 0 when there is none."""

    ALLOWED = 0
    WHO_ARE_YOU = 401
    FORBIDDEN = 403


_LOWEST = {Rule.VIEWER: 0, Rule.EDITOR: 1, Rule.ADMIN: 2}


def judge(rule: Rule, principal: Principal, is_local: bool, anonymous: bool) -> Verdict:
    """is_local: asked on this machine, not through a proxy; anonymous: whether hosts without a token are allowed from there."""
    if rule is Rule.PUBLIC:
        return Verdict.ALLOWED
    if rule is Rule.LOCAL:
        return Verdict.ALLOWED if is_local else Verdict.FORBIDDEN
    if principal == NOBODY:
        return Verdict.ALLOWED if rule is Rule.READ and anonymous else Verdict.WHO_ARE_YOU
    return Verdict.ALLOWED if _may(rule, principal.role) else Verdict.FORBIDDEN


def _may(rule: Rule, role: str) -> bool:
    if rule is Rule.READ:
        return role == HOST or role in ROLES
    if rule is Rule.ENROL:
        return role == ENROLMENT
    return role in ROLES and ROLES.index(role) >= _LOWEST[rule]


def mint(kind: str) -> tuple[str, bytes]:
    """A new token: (its text, the hash to keep)."""
    text = f"ou_{_LETTERS[kind]}_{token_urlsafe(32)}"
    return text, fingerprint(text)


def fingerprint(text: str) -> bytes:
    return sha256(text.encode("utf-8", "replace")).digest()


def bearer(authorization: str) -> str:
    """The token in an Authorization header. Raises Unauthorised when there is another thing in it."""
    scheme, _, text = authorization.strip().partition(" ")
    text = text.strip()
    if scheme.lower() != "bearer" or not text or len(authorization) > MAX_HEADER:
        raise Unauthorised("the Authorization header must be: Bearer TOKEN")
    return text


def is_good(token: "Token", now: float) -> bool:
    """Whether this token still opens anything."""
    return not token.revoked and (not token.expires or now < token.expires) and token.uses != 0


class HostTokens:
    """The hosts that have a token, by name. Safe for threads: one writes at a time, and readers need no lock."""

    def __init__(self, hashes: Iterable[tuple[str, bytes]] = ()):
        self._hashes: dict[str, bytes] = {}
        self._hosts: dict[bytes, str] = {}
        self._writing = threading.Lock()
        self.update(hashes)

    def update(self, hashes: Iterable[tuple[str, bytes]]) -> None:
        """New tokens of hosts, in place of those they had; an empty hash takes a host's token away."""
        with self._writing:
            for hostname, hashed in hashes:
                former = self._hashes.get(hostname, b"")
                if hashed:  # never without a token in between, or anybody could report in that moment
                    self._hashes[hostname] = hashed
                    self._hosts[hashed] = hostname
                else:
                    self._hashes.pop(hostname, None)
                if former != hashed:
                    self._hosts.pop(former, None)

    def __contains__(self, hostname: str) -> bool:
        return hostname in self._hashes

    def __len__(self) -> int:
        return len(self._hashes)

    def owner(self, hashed: bytes) -> str:
        """The host whose token this is, or ""."""
        hostname = self._hosts.get(hashed, "")
        return hostname if hmac.compare_digest(self._hashes.get(hostname, b""), hashed) else ""

    def may_report(self, hostname: str, authorization: str, anonymous: bool) -> str:
        """Why this must not be this host's heartbeat, or "". anonymous: whether one without a token may come from there."""
        hashed = self._hashes.get(hostname)
        if hashed is None and not authorization:
            return "" if anonymous else "this host has no token, and anonymous hosts are not allowed here"
        if not authorization:
            return "this host has a token and must show it"
        if hashed is None:
            return "this token is not this host's"
        try:
            shown = fingerprint(bearer(authorization))
        except Unauthorised as e:
            return str(e)
        return "" if hmac.compare_digest(shown, hashed) else "this token is not this host's"


class Tokens:
    """All tokens, in memory. Safe for threads."""

    def __init__(self, tokens: "Iterable[Token]" = (), hosts: HostTokens | None = None):
        self.hosts = HostTokens() if hosts is None else hosts
        self._tokens: Mapping[bytes, Token] = {}
        self._refreshing = threading.Lock()
        self.replace(tokens)

    def replace(self, tokens: "Iterable[Token]") -> None:
        """These, and no others from now on."""
        self._tokens = {token.hash: token for token in tokens}

    def refresh(self, load: "Callable[[], Iterable[Token]]") -> None:
        """Those that `load` reads now: what somebody else read before can never come after it."""
        with self._refreshing:
            self.replace(load())

    def all(self) -> "list[Token]":
        return sorted(self._tokens.values(), key=lambda token: token.id)

    def has_admin(self, now: float) -> bool:
        """Whether there is somebody who can make tokens for others."""
        return any(token.role == ADMIN and is_good(token, now) for token in self._tokens.values())

    def authenticate(self, authorization: str, now: float) -> Principal:
        """An Authorization header -> who shows it; a blank one is NOBODY's. Raises Unauthorised."""
        if not authorization:
            return NOBODY
        hashed = fingerprint(bearer(authorization))
        token = self._tokens.get(hashed)
        if token and hmac.compare_digest(token.hash, hashed) and is_good(token, now):
            return Principal(token.name, token.role if token.kind == OPERATOR else ENROLMENT, token.id)
        if hostname := self.hosts.owner(hashed):
            return Principal(hostname, HOST)
        raise Unauthorised("this token is not known, is revoked, or has expired")
