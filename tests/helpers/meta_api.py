"""A meta with tokens of every kind, asked without a server between."""

import copy
from pathlib import Path
from typing import Any

from helpers.hot_paths import whole_app
from meta.access.clients import Buckets, RateLimits
from meta.access.tokens import Token, mint
from meta.process.clock import Clock
from meta.service import Service
from meta.settings import Settings
from meta.store import Store
from updater.wire.heartbeat import RealAgent, Report

NOW = 1_800_000_000.0
REMOTE = "10.1.2.3"
KINDS = ("nobody", "local", "viewer", "editor", "admin", "host", "enrolment", "revoked", "expired", "forged")


class World:
    """clock is what meta takes for now; `call` asks as one of KINDS, from another machine unless it says so."""

    def __init__(self, directory: Path, limits: RateLimits | None = None, **settings: Any):
        self.now = NOW
        self.tarballs = directory / "tarballs"
        self.tarballs.mkdir()
        self._database = f"sqlite:///{directory}/meta.db"
        self.store = Store(self._database)
        self.store.upgrade()
        self.tokens: dict[str, str] = {"forged": mint("operator")[0]}
        self.ids: dict[str, int] = {}  # of the tokens in the store
        for role in ("viewer", "editor", "admin"):
            self.add(role, kind="operator", role=role)
        self.add("enrolment", kind="enrolment")
        self.add("revoked", kind="operator", role="admin", revoked=NOW - 1)
        self.add("expired", kind="operator", role="admin", expires=NOW)
        made = Settings(tarballs=self.tarballs, max_tarball=1 << 20, **settings)
        self.service = Service(self.store, made, self._clock())
        self.service.start()
        text, hashed = mint("host")
        self.tokens["host"] = text
        written = self.store.use_enrolment(self.ids["enrolment"], "h1", hashed, NOW)
        assert written
        self.service.host_tokens.update([("h1", hashed, written.serial)])
        self._limits = limits or RateLimits(*[Buckets(1e9, 1e9)] * 3)
        self.app = whole_app(self.service, self._limits)
        self.client = self.app.test_client()

    def another(self) -> "World":
        """Another meta on the same database and directory, which has heard of no later edit than now."""
        made = copy.copy(self)
        made.store = Store(self._database)
        made.service = Service(made.store, self.service.settings, made._clock())
        made.service.start()
        made.app = whole_app(made.service, self._limits)
        made.client = made.app.test_client()
        return made

    def _clock(self) -> Clock:
        """One that is never set: both its parts go on together."""
        return Clock(lambda: self.now, lambda: self.now)

    def close(self) -> None:
        self.service.close(5)
        self.store.close()

    def add(self, name: str, **fields: Any) -> None:
        text, hashed = mint(fields["kind"])
        self.ids[name] = self.store.add_token(Token(id=0, name=name, hash=hashed, created=NOW, **fields)).token.id
        self.tokens[name] = text

    def call(self, method: str, path: str, who: str = "admin", headers: Any = (), **more: Any) -> Any:
        sent = dict(headers)
        if who in self.tokens:
            sent["Authorization"] = f"Bearer {self.tokens[who]}"
        base = {"REMOTE_ADDR": "127.0.0.1" if who == "local" else REMOTE}
        url = path if path.startswith("/") else f"/api/v1/{path}"
        return self.client.open(url, method=method, headers=sent, environ_base=base, **more)

    def beat(self, name: str, *agents: RealAgent) -> None:
        """A report of this host."""
        self.service.table.beat(Report(name, list(agents)), REMOTE, self.now)


def record(name: str = "a", version: str = "1.0", **more: Any) -> dict[str, Any]:
    return {"name": name, "version": version, "tarball": "http://releases.example/a"} | more
