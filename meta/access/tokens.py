"""Tokens of operators and hosts: who asks, by the token that is shown.

Only a token's SHA-256 is kept; its text exists once, in the answer that makes it. Requests are judged from memory, in which
each token keeps the serial of its last change: however late an answer of the database is, it replaces nothing that is later.
What changes tokens is judged in the database. A token that is shown and not known is refused everywhere, never treated as none.
"""

import hmac
import threading
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Mapping
from hashlib import sha256
from secrets import token_urlsafe

import msgspec

from meta.access.roles import ADMIN, ENROLMENT, HOST, NOBODY, OPERATOR, Principal
from meta.errors import MetaError

MAX_HEADER = 512  # characters of an Authorization header
_LETTERS = {OPERATOR: "o", ENROLMENT: "e", HOST: "h"}


class Token(msgspec.Struct, frozen=True):
    """One operator's or enrolment token."""

    id: int  # 0 until it is stored
    kind: str
    name: str
    role: str = ""
    hash: bytes = b""  # SHA-256 of its text
    created: float = 0.0  # Unix seconds, as all times here
    expires: float = 0.0  # 0: never
    uses: int = -1  # left; -1: any number
    pattern: str = "*"  # a glob of the hostnames that may enrol with it
    revoked: float = 0.0  # 0: not
    reenrol: bool = False  # it also enrols hosts that have a token already


class Unauthorised(MetaError):
    """The token that was shown is none of ours, is revoked, has expired, or is somebody else's."""


class NotKnown(Unauthorised):
    """None of ours, as far as is known here: another meta may have made it a moment ago."""


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


def host_token(hostname: str, secret: str) -> tuple[str, bytes]:
    """The token of a host that made up this secret for its enrolment: (its text, the hash to keep). The same for the same, at
    every meta and at any time: so a host that did not get the answer asks once more, and meta need not remember anything."""
    made = sha256(f"{HOST}\0{hostname}\0{secret}".encode()).digest()
    text = f"ou_{_LETTERS[HOST]}_{urlsafe_b64encode(made).decode().rstrip('=')}"
    return text, fingerprint(text)


def ended(token: Token, now: float) -> str:
    """Why this token opens nothing any more, or "". Whether an enrolment token is used up is judged where it is used: a host
    whose answer was lost may have been the last."""
    if token.revoked:
        return "this token was revoked"
    return "this token has expired" if token.expires and now >= token.expires else ""


def is_good(token: Token, now: float) -> bool:
    """Whether this token still opens anything."""
    return not ended(token, now)


class _Order:
    """Which facts are news. Each came with the serial of the transaction that wrote it; answers of the database may arrive in
    any order, so only a later fact replaces one. Not safe for threads."""

    def __init__(self, reached: int = 0) -> None:
        self.reached = reached  # everything up to this serial is known
        self._later: dict[str | int, int] = {}  # of what is known already beyond that: its serial

    def is_news(self, key: str | int, serial: int) -> bool:
        """Whether a fact about this key is later than what is known of it; it is known from now on."""
        if serial <= max(self.reached, self._later.get(key, 0)):
            return False
        self._later[key] = serial
        return True

    def is_later(self, key: str | int, serial: int) -> bool:
        """Whether something later than this serial is known of the key."""
        return self._later.get(key, 0) > serial

    def reach(self, serial: int) -> None:
        if serial > self.reached:
            self.reached = serial
            self._later = {key: at for key, at in self._later.items() if at > serial}


class HostTokens:
    """The hosts that have a token, by name. Safe for threads: one writes at a time, and readers need no lock."""

    def __init__(self) -> None:
        self._hashes: dict[str, bytes] = {}
        self._hosts: dict[bytes, str] = {}
        self._order = _Order()
        self.epoch = 0
        self._writing = threading.Lock()

    def update(self, facts: Iterable[tuple[str, bytes, int]], reached: int = 0, epoch: int | None = None) -> None:
        """New tokens of hosts, in place of those they had: (hostname, hash, serial); an empty hash takes a host's token away.
        What is older than what is known changes nothing, nor does what began in another epoch than that of now. reached: all
        facts up to this serial are known now."""
        facts = list(facts)  # however slow they come, those who enrol do not wait for it
        with self._writing:
            if epoch not in (None, self.epoch):
                return
            for hostname, hashed, serial in facts:
                if self._order.is_news(hostname, serial):
                    self._put(hostname, hashed)
            self._order.reach(reached)

    def renew(self, facts: Iterable[tuple[str, bytes, int]], reached: int, epoch: int) -> None:
        """These, and no others, whatever was known: the database's history is another one, and this is its epoch."""
        hashes = {hostname: hashed for hostname, hashed, _ in facts if hashed}
        hosts = {hashed: hostname for hostname, hashed in hashes.items()}
        with self._writing:
            self._order, self.epoch = _Order(reached), epoch
            self._hashes, self._hosts = hashes, hosts

    def _put(self, hostname: str, hashed: bytes) -> None:
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
    """All tokens, in memory. Safe for threads. Serials can be compared within an epoch; another begins where the database turns
    out to have another history, by the number that the store gives it. What writes into the database reads the epoch before,
    has the store refuse where it is another one by then, and shows it with the outcome."""

    def __init__(self, tokens: Iterable[Token] = ()):
        self.hosts = HostTokens()
        self._tokens: Mapping[bytes, Token] = {token.hash: token for token in tokens}
        self._order = _Order()
        self.epoch = 0
        self._writing = threading.Lock()

    def replace(self, tokens: Iterable[Token], serial: int) -> None:
        """These, and no others, as of this serial; what is known to be later stays."""
        with self._writing:
            if serial < self._order.reached:
                return
            found = {token.id: token for token in tokens}
            later = {one.id: one for one in self._tokens.values() if self._order.is_later(one.id, serial)}
            self._tokens = {token.hash: token for token in (found | later).values()}
            self._order.reach(serial)

    def renew(self, tokens: Iterable[Token], serial: int, epoch: int) -> None:
        """The same of these, but for those of hosts."""
        with self._writing:
            self._order, self.epoch = _Order(serial), epoch
            self._tokens = {token.hash: token for token in tokens}

    def take(self, token: Token, serial: int, epoch: int) -> None:
        """This one is so since that serial of this epoch."""
        with self._writing:
            if epoch == self.epoch and self._order.is_news(token.id, serial):
                self._tokens = {**self._tokens, token.hash: token}

    def all(self) -> list[Token]:
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
        if token and hmac.compare_digest(token.hash, hashed):
            if why := ended(token, now):
                raise Unauthorised(why)
            return Principal(token.name, token.role if token.kind == OPERATOR else ENROLMENT, token.id)
        if hostname := self.hosts.owner(hashed):
            return Principal(hostname, HOST)
        raise NotKnown("this token is not known")
