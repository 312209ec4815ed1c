"""Authentication by the tokens of operators and hosts.

Only a token's SHA-256 is stored; its text appears once, in the response that creates it. Requests are authenticated from
memory. There, each token has the serial of its last change, so that a late answer of the database never replaces newer data.
Changes of tokens are authorised in the database. An unknown token is refused everywhere, never treated as a missing one.
"""

import hmac
import threading
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Mapping
from hashlib import sha256
from secrets import token_urlsafe

import msgspec

from meta.access.roles import ADMIN, ENROLMENT, HOST, NOBODY, OPERATOR, Principal
from meta.errors import Unauthorised
from updater.wire.limits import MAX_AUTHORIZATION

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


class NotKnown(Unauthorised):
    """The token is not known here; another meta may have created it a moment ago."""


def mint(kind: str) -> tuple[str, bytes]:
    """A new token: (its text, the hash to store)."""
    text = f"ou_{_LETTERS[kind]}_{token_urlsafe(32)}"
    return text, fingerprint(text)


def fingerprint(text: str) -> bytes:
    return sha256(text.encode("utf-8", "replace")).digest()


def bearer(authorization: str) -> str:
    """The token in an Authorization header. Raises Unauthorised if the header has another form."""
    if (length := len(authorization)) > MAX_AUTHORIZATION:
        raise Unauthorised(f"the Authorization header has {length:,} characters, of {MAX_AUTHORIZATION} at most")
    scheme, _, text = authorization.strip().partition(" ")
    text = text.strip()
    if scheme.lower() != "bearer" or not text:
        raise Unauthorised("the Authorization header must be: Bearer TOKEN")
    return text


def host_token(hostname: str, secret: str) -> tuple[str, bytes]:
    """The token of a host that chose this secret for its enrolment: (its text, the hash to store).

    It depends only on the arguments. So a host that did not get the response can ask again at any meta, and gets the same
    token.
    """
    made = sha256(f"{HOST}\0{hostname}\0{secret}".encode()).digest()
    text = f"ou_{_LETTERS[HOST]}_{urlsafe_b64encode(made).decode().rstrip('=')}"
    return text, fingerprint(text)


def ended(token: Token, now: float) -> str:
    """Why this token is no longer valid, or "".

    Whether an enrolment token is used up is checked where it is used, since a host whose response was lost may repeat its use.
    """
    if token.revoked:
        return "this token was revoked"
    return "this token has expired" if token.expires and now >= token.expires else ""


def is_good(token: Token, now: float) -> bool:
    """Whether this token is still valid."""
    return not ended(token, now)


class _Order:
    """Decides which facts are new, by the serial of the transaction that wrote each. Not safe for threads.

    Answers of the database may arrive in any order, so a fact is only replaced by a later one.
    """

    def __init__(self, reached: int = 0) -> None:
        self.reached = reached  # everything up to this serial is known
        self._later: dict[str | int, int] = {}  # serials of facts known beyond that, by key

    def is_news(self, key: str | int, serial: int) -> bool:
        """Whether a fact about this key is later than the known one; from now on it counts as known."""
        if serial <= max(self.reached, self._later.get(key, 0)):
            return False
        self._later[key] = serial
        return True

    def is_later(self, key: str | int, serial: int) -> bool:
        """Whether a fact later than this serial is known about the key."""
        return self._later.get(key, 0) > serial

    def reach(self, serial: int) -> None:
        if serial > self.reached:
            self.reached = serial
            self._later = {key: at for key, at in self._later.items() if at > serial}


class HostTokens:
    """The hosts that have a token, by name. Safe for threads: writers take a lock, and readers need none."""

    def __init__(self) -> None:
        self._hashes: dict[str, bytes] = {}
        self._hosts: dict[bytes, str] = {}
        self._order = _Order()
        self.epoch = 0
        self._writing = threading.Lock()

    def update(self, facts: Iterable[tuple[str, bytes, int]], reached: int = 0, epoch: int | None = None) -> None:
        """Set tokens of hosts, as (hostname, hash, serial); an empty hash removes a host's token.

        Facts older than the known ones are ignored, and so are all if `epoch` is not the current one. reached: all facts up to
        this serial are known now.
        """
        facts = list(facts)  # read before the lock is taken, as they may arrive slowly
        with self._writing:
            if epoch not in (None, self.epoch):
                return
            for hostname, hashed, serial in facts:
                if self._order.is_news(hostname, serial):
                    self._put(hostname, hashed)
            self._order.reach(reached)

    def renew(self, facts: Iterable[tuple[str, bytes, int]], reached: int, epoch: int) -> None:
        """Replace all tokens by these, since the database has another history now; `epoch` is its number."""
        hashes = {hostname: hashed for hostname, hashed, _ in facts if hashed}
        hosts = {hashed: hostname for hostname, hashed in hashes.items()}
        with self._writing:
            self._order, self.epoch = _Order(reached), epoch
            self._hashes, self._hosts = hashes, hosts

    def _put(self, hostname: str, hashed: bytes) -> None:
        former = self._hashes.get(hostname, b"")
        if hashed:  # replaced, not removed and added: without a token, anyone could report for a moment
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
        """Why a heartbeat with this Authorization is refused for the host, or "". anonymous: one without a token is allowed."""
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
    """All tokens, in memory. Safe for threads.

    Serials can be compared within one epoch. The store starts a new epoch if the database turns out to have another history.
    A writer reads the epoch first and passes it to the store, which refuses the write if the epoch has changed. Then it passes
    the result and the epoch to this object.
    """

    def __init__(self, tokens: Iterable[Token] = ()):
        self.hosts = HostTokens()
        self._tokens: Mapping[bytes, Token] = {token.hash: token for token in tokens}
        self._order = _Order()
        self.epoch = 0
        self._writing = threading.Lock()

    def replace(self, tokens: Iterable[Token], serial: int) -> None:
        """Replace all tokens by these, as of this serial; tokens with later changes are kept."""
        with self._writing:
            if serial < self._order.reached:
                return
            found = {token.id: token for token in tokens}
            later = {one.id: one for one in self._tokens.values() if self._order.is_later(one.id, serial)}
            self._tokens = {token.hash: token for token in (found | later).values()}
            self._order.reach(serial)

    def renew(self, tokens: Iterable[Token], serial: int, epoch: int) -> None:
        """Like HostTokens.renew, for the tokens of operators and enrolments."""
        with self._writing:
            self._order, self.epoch = _Order(serial), epoch
            self._tokens = {token.hash: token for token in tokens}

    def take(self, token: Token, serial: int, epoch: int) -> None:
        """Set one token, as of this serial of this epoch."""
        with self._writing:
            if epoch == self.epoch and self._order.is_news(token.id, serial):
                self._tokens = {**self._tokens, token.hash: token}

    def all(self) -> list[Token]:
        return sorted(self._tokens.values(), key=lambda token: token.id)

    def has_admin(self, now: float) -> bool:
        """Whether there is a valid admin token."""
        return any(token.role == ADMIN and is_good(token, now) for token in self._tokens.values())

    def authenticate(self, authorization: str, now: float) -> Principal:
        """The principal of an Authorization header; NOBODY if it is blank. Raises Unauthorised."""
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
