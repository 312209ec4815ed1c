"""Breaks what is between three metas and their PostgreSQL, with people at work, and checks that every promise was kept.

    python -m lab.partitions --seed 1 --seconds 300

Everything is its own and on loopback: the clusters, the metas, the lines between them; nothing stays. Exits 0 when nothing was
violated, 1 with one line for each violation (and the metas' logs kept), 2 where PostgreSQL's programs are missing.
"""

import argparse
import logging
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from threading import Event

from lab.fleet import Late
from lab.partitions.checker import violations
from lab.partitions.ending import end
from lab.partitions.faults import Breaker
from lab.partitions.history import History
from lab.partitions.people import AGENTS, TARBALL, People
from lab.partitions.site import Site
from lab.postgresql import NoPostgresql

log = logging.getLogger("lab.partitions")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m lab.partitions", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--seed", type=int, default=1, help="of what breaks when; people are never twice the same (default 1)"
    )
    parser.add_argument("--seconds", type=float, default=300, help="for which things break (default 300)")
    given = parser.parse_args()
    for ending in (signal.SIGINT, signal.SIGTERM):  # also where a shell ignores them for what runs in the background
        signal.signal(ending, _stop)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        history, found = run(given.seed, given.seconds)
    except NoPostgresql as e:
        print(e, file=sys.stderr)
        return 2
    print(summary(given.seed, history))
    for line in found:
        print(f"VIOLATION {line}")
    print(f"{len(found)} violations")
    return 1 if found else 0


def _stop(number: int, _frame: object) -> None:
    """By way of every `with`, which ends what was begun."""
    raise SystemExit(128 + number)


def run(seed: int, seconds: float) -> tuple[History, list[str]]:
    """One run: (what happened, what it violates). Raises NoPostgresql."""
    history = History()
    with Site() as site:
        admin = site.metas[0].token.read_text().strip()
        agents = [f"{{name: {name}, version: first, tarball: '{TARBALL}'}}" for name in AGENTS]
        site.metas[0].edit(f"agents: [{', '.join(agents)}]\n")
        enrolment = site.metas[0].run("token", "enrolment", "rack", "--uses", "100000").stdout.strip()
        people = People(site, history, seed, admin, enrolment)
        people.start()
        trouble = []
        try:
            Breaker(site, history, people, seed, Event()).run(seconds)
        finally:
            people.stop()
        try:
            end(site, history, people)
        except Late as e:
            trouble.append(f"ending: {e}")
        found = [*trouble, *violations(history)]
        if found:
            _keep_logs(site)
    return history, found


def _keep_logs(site: Site) -> None:
    kept = Path(tempfile.mkdtemp(prefix="ops-updater-partitions-logs-"))
    for number, meta in enumerate(site.metas):
        shutil.copy(meta.log, kept / f"meta{number}.log")
    log.info("the metas' logs are in %s", kept)


def summary(seed: int, history: History) -> str:
    acknowledged = sum(edit.asked.status == 200 for edit in history.edits)
    return (
        f"seed {seed}: {len(history.edits)} edits ({acknowledged} acknowledged), {len(history.beats)} heartbeats, "
        f"{len(history.reads)} reads, {len(history.retirements)} retirements, {len(history.orders)} orders of tokens, "
        f"{len(history.faults)} faults, {len(history.losses)} failovers, of which {len(history.sudden)} lost what was just "
        f"acknowledged; all equal {history.end.settled:.1f} s after the end"
    )


if __name__ == "__main__":
    sys.exit(main())
