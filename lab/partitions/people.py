"""Those who use the metas while things break: editors, readers, hosts, who retires hosts, and who gives tokens and takes them
back. Each writes into the history what it asked and what came of it."""

import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from random import Random
from typing import Any

from lab.partitions.history import OK, UNFOUND, Asked, Beat, Edit, History, Probe, Read, Retirement, TokenOrder
from lab.partitions.site import METAS, Answer, Site

EDITORS, HOSTS, REPORTERS = 6, 200, 3
SUDDEN = 60  # the client that orders what is to be lost at once
AGENTS = ("a0", "a1", "a2")  # few, so that editors meet
API = "/api/v1"
TARBALL = "http://127.0.0.1/t"


class People:
    """tokens: by name, their texts; "admin" and "enrolment" are the site's own."""

    def __init__(self, site: Site, history: History, seed: int, admin: str, enrolment: str):
        self._site, self._history, self._seed = site, history, seed
        self._ended = threading.Event()
        self.tokens = {"admin": admin}
        self.tokens["enrolment"] = enrolment
        self._ids: dict[str, int] = {}
        self._threads: list[threading.Thread] = []
        self.failures: list[BaseException] = []

    def start(self) -> None:
        works: list[Callable[[Random, int], None]] = [self._edit] * EDITORS
        works += [self._read] * METAS + [self._report] * REPORTERS + [self._retire, self._order_tokens]
        for number, work in enumerate(works):
            arguments = (work, Random(f"{self._seed} {number}"), number)
            self._threads.append(threading.Thread(target=self._repeat, args=arguments))
            self._threads[-1].start()

    def stop(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()
        if self.failures:
            raise self.failures[0]

    def _repeat(self, work: Callable[[Random, int], None], random: Random, number: int) -> None:
        try:
            while not self._ended.is_set():
                work(random, number)
        except BaseException as e:  # noqa: BLE001 - raised by stop
            self.failures.append(e)
            self._ended.set()

    def _ask(self, meta: int, method: str, path: str, client: int, token: str = "admin", **more: Any) -> Answer:
        return self._site.ask(meta, method, API + path, self.tokens.get(token, ""), 10 + client, **more)

    # --- records ---

    def _edit(self, random: Random, number: int) -> None:
        """On what it reads at one meta it edits at another, with a condition, without one, or back to a version there was."""
        agent = random.choice(AGENTS)
        read = self._ask(random.randrange(METAS), "GET", f"/records/{agent}", number)
        if read.asked.status != OK:
            self._ended.wait(0.2)
            return
        mark = f"{self._seed}-{number}-{len(self._history.edits)}"
        way = random.choice(["condition", "condition", "condition", "any", "former"])
        version = mark if way != "former" else self._former(random, agent) or mark
        expected = int(read.etag.strip('"')) if way == "condition" else 0
        self._put(random.randrange(METAS), number, mark, agent, version, expected)
        self._ended.wait(random.uniform(0.0, 0.2))

    def _put(self, meta: int, number: int, mark: str, agent: str, version: str, expected: int = 0) -> Asked:
        answer = self._ask(
            meta,
            "PUT",
            f"/records/{agent}?why={mark}",
            number,
            body={"name": agent, "version": version, "tarball": TARBALL},
            If_Match=f'"{expected}"' if expected else "*",
        )
        body = answer.body if answer.asked.status == OK else {}
        changed, revision = bool(body.get("changes")), body.get("revision", 0)
        self._history.edits.append(Edit(answer.asked, mark, agent, version, expected, revision, changed))
        return answer.asked

    def _former(self, random: Random, agent: str) -> str:
        """A version that it had a short while ago, perhaps still has."""
        former = [edit.version for edit in self._history.edits[-20:] if edit.agent == agent]
        return random.choice(former) if former else ""

    def _read(self, _random: Random, number: int) -> None:
        meta = number % METAS
        answer = self._ask(meta, "GET", "/records", number)
        revision = int(answer.etag.strip('"') or 0) if answer.asked.status == OK else 0
        self._history.reads.append(Read(answer.asked, revision, digest(answer.body)))
        self._ended.wait(0.05)

    # --- hosts ---

    def _report(self, random: Random, number: int) -> None:
        """Each reporter has hosts of its own, so that a host says one thing after the other."""
        host = f"h{random.randrange(HOSTS // REPORTERS) * REPORTERS + number % REPORTERS}"
        self._beat(random, number, host)
        self._ended.wait(random.uniform(0.0, 0.05))

    def _beat(self, random: Random, number: int, host: str) -> Asked:
        version = f"{len(self._history.beats)}-{number}"
        agents = [{"name": "a0", "version": version, "status": "started", "timestamp": 1}]
        body = {"hostname": host, "realAgents": agents}
        asked = self._site.ask(random.randrange(METAS), "POST", "/heartbeat", "", 10 + number, body).asked
        self._history.beats.append(Beat(asked, host, version))
        return asked

    def _retire(self, random: Random, number: int) -> None:
        """A host that reports once, is retired in that moment at a meta, and perhaps taken back at another."""
        host = f"r{len(self._history.retirements)}"
        if self._beat(random, number, host).status != OK:
            return
        self._ended.wait(random.uniform(0.0, 0.6))
        for retired in random.choice([[True], [True, False], [True, False, True]]):
            self._set_aside(number, host, retired, lambda: random.randrange(METAS))
        self._ended.wait(random.uniform(0.2, 1.0))

    def _set_aside(self, number: int, host: str, retired: bool, meta: Callable[[], int]) -> Asked:
        for _ in range(20):  # until that meta knows it
            path, method = f"/hosts/{host}/retirement?why={host}", "PUT" if retired else "DELETE"
            asked = self._ask(meta(), method, path, number).asked
            if asked.status != UNFOUND:
                break
            self._ended.wait(0.1)
        self._history.retirements.append(Retirement(asked, host, retired))
        return asked

    # --- tokens ---

    def _order_tokens(self, random: Random, number: int) -> None:
        random.choice([self._one_token, self._one_token, self._one_host_token, self._two_admins])(random, number)
        self._ended.wait(random.uniform(0.1, 0.5))

    def _one_token(self, random: Random, number: int) -> None:
        name = self._make_token(random, number, "viewer", random.randrange(METAS))
        if name and random.random() < 0.7:
            self._revoke(random, number, name, f"/tokens/{self._ids[name]}", "admin")

    def _one_host_token(self, random: Random, number: int) -> None:
        name = self._enrol(random, number, random.randrange(METAS))
        if name and random.random() < 0.7:
            self._revoke(random, number, name, f"/hosts/{name}/token", "admin")

    def _enrol(self, random: Random, number: int, meta: int) -> str:
        """The host's name, "" where it got no token."""
        name = f"e{number}-{len(self._history.orders)}"
        answer = self._ask(meta, "POST", "/enrol", number, "enrolment", body={"hostname": name})
        if not answer.body or "token" not in answer.body:
            return ""
        self.tokens[name] = answer.body["token"]
        self._history.orders.append(TokenOrder(answer.asked, name, "made"))
        self._probe(random, number, name)
        return name

    def _two_admins(self, random: Random, number: int) -> None:
        """They revoke each other at the same time, at two metas."""
        one, other = (self._make_token(random, number, "admin", random.randrange(METAS)) for _ in range(2))
        if one and other:
            self._ended.wait(1.0)
            pairs = ((one, other), (other, one))
            with ThreadPoolExecutor(2) as pool:
                for by, whom in pairs:
                    pool.submit(self._revoke, Random(f"{by} {whom}"), number, whom, f"/tokens/{self._ids[whom]}", by)

    def _make_token(self, random: Random, number: int, role: str, meta: int) -> str:
        """Its name, "" where there is none."""
        name = f"t{number}-{len(self._history.orders)}"
        body = {"kind": "operator", "name": name, "role": role}
        answer = self._ask(meta, "POST", "/tokens", number, body=body)
        if not answer.body or "token" not in answer.body:
            return ""
        self.tokens[name], self._ids[name] = answer.body["token"], answer.body["id"]
        self._history.orders.append(TokenOrder(answer.asked, name, "made"))
        self._probe(random, number, name)
        return name

    def _revoke(self, random: Random, number: int, name: str, path: str, by: str) -> None:
        self._take_back(random.randrange(METAS), number, name, path, by)
        for _ in range(3):
            self._probe(random, number, name)

    def _take_back(self, meta: int, number: int, name: str, path: str, by: str) -> Asked:
        asked = self._ask(meta, "DELETE", path, number, by).asked
        asked = asked._replace(status=OK if asked.status == 204 else asked.status)
        self._history.orders.append(TokenOrder(asked, name, "revoked", by))
        return asked

    def _probe(self, random: Random, number: int, name: str) -> None:
        self._history.probes.append(Probe(self.opens(random.randrange(METAS), number, name), name))

    def opens(self, meta: int, number: int, name: str) -> Asked:
        """Status 200 when the token opens this meta."""
        return self._ask(meta, "GET", "/whoami", number, name).asked

    # --- what is to be lost at once ---

    def sudden(self, random: Random, meta: int) -> tuple[str, Callable[[], bool]]:
        """An order for this meta, all prepared: (what it is, what makes it and returns whether it was acknowledged)."""
        ways = {
            "an edit": self._sudden_edit,
            "a token": lambda random, meta: lambda: bool(self._make_token(random, SUDDEN, "viewer", meta)),
            "a revoked token": self._sudden_revocation,
            "a host's token": lambda random, meta: lambda: bool(self._enrol(random, SUDDEN, meta)),
            "a host's token that was taken back": self._sudden_taking_back,
            "a retirement": self._sudden_retirement,
        }
        what = random.choice(sorted(ways))
        return what, ways[what](random, meta)

    def _sudden_edit(self, random: Random, meta: int) -> Callable[[], bool]:
        mark, agent = f"{self._seed}-sudden-{len(self._history.edits)}", random.choice(AGENTS)
        return lambda: self._put(meta, SUDDEN, mark, agent, mark).status == OK

    def _sudden_revocation(self, random: Random, meta: int) -> Callable[[], bool]:
        name = self._make_token(random, SUDDEN, "viewer", meta)
        path = f"/tokens/{self._ids.get(name, 0)}"
        return lambda: bool(name) and self._take_back(meta, SUDDEN, name, path, "admin").status == OK

    def _sudden_taking_back(self, random: Random, meta: int) -> Callable[[], bool]:
        name = self._enrol(random, SUDDEN, meta)
        return lambda: bool(name) and self._take_back(meta, SUDDEN, name, f"/hosts/{name}/token", "admin").status == OK

    def _sudden_retirement(self, random: Random, meta: int) -> Callable[[], bool]:
        host = f"r{SUDDEN}-{len(self._history.retirements)}"
        self._beat(random, SUDDEN, host)
        return lambda: self._set_aside(SUDDEN, host, True, lambda: meta).status == OK


def digest(content: Any) -> str:
    return sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
