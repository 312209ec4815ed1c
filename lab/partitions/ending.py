"""How a run ends: all is healed, the metas come to the same, and what there is then is put into the history."""

import json
from collections.abc import Mapping
from typing import Any

from lab.fleet import Late, until
from lab.partitions.history import OK, End, History, Revision
from lab.partitions.people import API, People, digest
from lab.partitions.site import METAS, Site
from meta.access.tokens import fingerprint, is_good
from meta.store import Store

CLIENT = 240
UNAUTHORISED = 401
WITHIN = 120.0  # seconds; the checker wants less


def end(site: Site, history: History, people: People) -> None:
    """Fill history.end. Raises Late where the metas do not even come to an end."""
    begin = site.clock()
    site.wait_until_ready(WITHIN)
    try:
        until("all metas are equal", _are_equal, site, people, within=WITHIN)
    finally:
        history.end = _look(site, people)
        history.end.settled = site.clock() - begin


def _are_equal(site: Site, people: People) -> bool:
    records = {_records(site, people, meta) for meta in range(METAS)}
    if len(records) > 1:
        return False
    kept = _kept_hosts(site)
    return all(_hosts(site, people, meta) == kept for meta in range(METAS))


def _records(site: Site, people: People, meta: int) -> tuple[int, str]:
    answer = site.ask(meta, "GET", f"{API}/records", people.tokens["admin"], CLIENT)
    return int(answer.etag.strip('"') or 0), digest(answer.body)


def _hosts(site: Site, people: People, meta: int) -> dict[str, tuple[str, bool]]:
    found: dict[str, tuple[str, bool]] = {}
    for state in ("", "&state=retired"):
        cursor = ""
        while True:
            path = f"{API}/hosts?limit=1000{state}" + (f"&cursor={cursor}" if cursor else "")
            body: Any = site.ask(meta, "GET", path, people.tokens["admin"], CLIENT).body or {}
            for host in body.get("items", []):
                agents = host.get("agents") or []
                found[host["name"]] = (agents[0]["version"] if agents else "", bool(state))
            cursor = body.get("next", "")
            if not cursor:
                break
    return found


def _kept_hosts(site: Site) -> dict[str, tuple[str, bool]]:
    with site.store() as store:
        rows = list(store.load_hosts())
    agents = {row.hostname: json.loads(row.agents) for row in rows}
    return {
        row.hostname: (agents[row.hostname][0][1] if agents[row.hostname] else "", row.retired_at > 0) for row in rows
    }


def _look(site: Site, people: People) -> End:
    with site.store() as store:
        revisions = [one for made in store.revisions_since(0) for one in _versions(made)]
        tokens, admins = _kept_tokens(store, people, site)
    return End(
        records=[_records(site, people, meta) for meta in range(METAS)],
        hosts=[_hosts(site, people, meta) for meta in range(METAS)],
        revisions=revisions,
        kept_hosts=_kept_hosts(site),
        kept_tokens=tokens,
        tokens=[
            {name: _opens(people, meta, CLIENT + number, name) for number, name in enumerate(tokens)}
            for meta in range(METAS)
        ],
        admins=admins,
    )


def _opens(people: People, meta: int, client: int, name: str) -> bool:
    """Each from an address of its own: meta limits how many refused tokens may come from one."""
    status = people.opens(meta, client, name).status
    if status not in (OK, UNAUTHORISED):
        raise Late(f"whether token {name} opens meta {meta} was answered {status}")
    return status == OK


def _versions(made: Any) -> list[Revision]:
    found = [
        Revision(made.number, made.why, one.name, (one.before or {}).get("version", ""), one.after.get("version", ""))
        for one in made.changes
        if one.kind == "record" and one.after
    ]
    return found or [Revision(made.number, made.why, "", "", "")]


def _kept_tokens(store: Store, people: People, site: Site) -> tuple[Mapping[str, bool], int]:
    tokens = store.tokens()
    good = {token.hash for token in tokens if is_good(token, 0.0)} | {hashed for _, hashed, _ in store.host_tokens()}
    names = [name for name in people.tokens if name not in ("enrolment",)]
    kept = {name: fingerprint(people.tokens[name]) in good for name in names}
    return kept, sum(token.role == "admin" and is_good(token, 0.0) for token in tokens)
