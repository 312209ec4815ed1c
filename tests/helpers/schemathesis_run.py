"""Runs the whole REST API with schemathesis: cases that fit the OpenAPI document and cases that do not, as different people,
over records, hosts and files that are there. The same seed gives the same cases.

    PYTHONPATH=tests:. .venv/bin/python -m helpers.schemathesis_run [--cases 10000] [--seed 1]

Prints one line per defect and a count at the end; exits 1 when there was a 500, an answer that the document does not have, or a
case that does not fit it and was taken.
"""

import argparse
import gzip
import logging
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import hypothesis
import schemathesis
from hypothesis import HealthCheck, Phase
from schemathesis.checks import load_all_checks
from schemathesis.config import SchemathesisConfig
from schemathesis.core.failures import FailureGroup
from schemathesis.generation import GenerationMode

from helpers.databases import execute
from helpers.meta_api import REMOTE, World, record
from updater.wire.heartbeat import Outcome as HostOutcome
from updater.wire.heartbeat import RealAgent, Report

# What they would refuse is right here: text that fits a schema may still be no URL; a revoked token is not looked at twice.
EXCLUDED = {"positive_data_acceptance", "missing_required_header", "use_after_free", "ensure_resource_availability"}
PEOPLE = ("admin",) * 12 + ("editor", "viewer", "host", "enrolment", "nobody", "revoked")
PEOPLE_WITH_GOOD_TOKENS = ("viewer", "editor", "admin", "enrolment")
THERE = {"agent": ["a", "b"], "version": ["1", "2"], "host": ["h1", "h2"], "number": [1, 2], "file": ["a-1.tar.gz"]}


class Outcome(NamedTuple):
    """What a run found. failures: one text for each defect of an operation."""

    cases: int
    operations: int
    failures: list[str]
    statuses: Counter[int]


class Run:
    """One meta, and what is found while it is asked."""

    def __init__(self, directory: Path, seed: int):
        self.world = World(directory, anonymous_hosts=False)
        self.random = Random(seed)
        self.found: dict[tuple[str, str], str] = {}
        self.statuses: Counter[int] = Counter()
        self.cases = 0
        self.checks = [check for check in _all_checks() if check.__name__ not in EXCLUDED]

    def furnish(self) -> None:
        """Something of everything to ask for."""
        world = self.world
        world.service.tokens.replace(*world.store.tokens_at())
        for name in ("a", "b"):
            if world.service.records.record(name) is None:
                body = record(name, "1", overrides=[{"prefix": "h1", "version": "2"}])
                world.call("PUT", f"records/{name}", headers={"If-None-Match": "*"}, json=body)
        outcome = HostOutcome("a", "1", "2", "watch", "rolled back", "it failed", "line", 7)
        for name in ("h1", "h2"):
            world.service.table.beat(
                Report(name, [RealAgent("a", "1", "started", 7)], outcomes=[outcome]), REMOTE, world.now
            )
        packed = gzip.compress(b"packed", mtime=0)
        world.call("PUT", "tarballs/a-1.tar.gz", data=packed, content_type="application/octet-stream")

    def keep_people(self) -> None:
        """Whoever was revoked by a case may ask again, and what was taken from a host is given back."""
        world = self.world
        if not world.service.tokens.has_admin(world.now) or self.cases % 50 == 0:
            names = ", ".join(f"'{name}'" for name in PEOPLE_WITH_GOOD_TOKENS)
            execute(world.store.shown, f"UPDATE token SET revoked = 0 WHERE id <= 6 AND name IN ({names})")
            tokens, serial = world.store.tokens_at()
            world.service.tokens.replace([token for token in tokens if token.id <= 6], serial)

    def ask(self, case: Any) -> None:
        who = self.random.choice(PEOPLE)
        checks = self.checks
        if _is_positive(case) and self.random.random() < 0.7:
            self.fit(case)
            checks = [check for check in checks if check.__name__ != "negative_data_rejection"]
        headers = {"Authorization": f"Bearer {self.world.tokens[who]}"} if who in self.world.tokens else {}
        self.keep_people()
        self.cases += 1
        try:
            response = case.call(headers=headers)
            self.statuses[response.status_code] += 1
            case.validate_response(response, checks=checks, headers=headers)
        except (FailureGroup, AssertionError) as e:
            self.note(case, e)

    def fit(self, case: Any) -> None:
        """Make the case one about things that are there, with conditions and texts that hold, as no schema can say."""
        choose = self.random.choice
        for part, values in THERE.items():
            if part in (case.path_parameters or {}):
                case.path_parameters[part] = choose(values)
        if case.method in ("PUT", "PATCH", "DELETE") and "/records" in case.path:
            case.headers = {choose(["If-Match"] * 3 + ["If-None-Match"]): "*"}
        if isinstance(case.body, dict):
            _fit_record(case.body, choose)
            for one in case.body.get("agents") or ():
                _fit_record(one, choose)
            if "name" in case.body and "agent" in (case.path_parameters or {}):
                case.body["name"] = case.path_parameters["agent"]
            if "revision" in case.body:
                case.body["revision"] = choose([0, 1, 2])

    def note(self, case: Any, error: BaseException) -> None:
        for one in getattr(error, "exceptions", [error]):
            key = (case.operation.label, getattr(one, "title", type(one).__name__))
            curl = case.as_curl_command()[:600]
            self.found.setdefault(key, f"{key[0]}: {key[1]}: {' '.join(str(one).split())[:400]} | {curl}")


def _fit_record(body: Any, choose: Any) -> None:
    if not isinstance(body, dict):
        return
    if "tarball" in body:
        body["tarball"] = choose(["http://x.example/t", ["https://x.example", "http://y.example/"]])
    for key in ("md5", "sha256"):
        if key in body:
            body[key] = ""
    for override in body.get("overrides") or ():
        for key in ("prefix", "hosts", "label"):
            override.pop(key, None)
        override |= {"glob": choose(["*", "h1", "*-[0-9]"]), "version": choose(["1", "2"])}
        _fit_record(override, choose)
    if "selector" in body:
        body["selector"] = choose([{"prefix": "h"}, {"glob": "*"}, {"hosts": ["h1"]}, {"label": "env=x"}])
    if "set" in body and isinstance(body["set"], dict) and "unset" in body:
        del body["unset"]
    _fit_record(body.get("set"), choose)
    if "selector" in body and isinstance(body.get("set"), dict) and "version" not in body["set"]:
        body["set"].pop("sha256", None)  # it belongs to a version
        body["set"].setdefault("cmd", "stop")


def _is_positive(case: Any) -> bool:
    return bool(case.meta is None or case.meta.generation.mode == GenerationMode.POSITIVE)


def _all_checks() -> list[Any]:
    load_all_checks()
    from schemathesis.checks import CHECKS

    return list(CHECKS.get_all())


def run(directory: Path, cases: int, seed: int, prepare: Callable[[World], None] = lambda _world: None) -> Outcome:
    """At least so many cases, over a new database in this directory."""
    running = Run(directory, seed)
    prepare(running.world)
    try:
        config = SchemathesisConfig.from_dict({"seed": seed, "generation": {"with-security-parameters": False}})
        schema = schemathesis.openapi.from_wsgi("/api/v1/openapi.json", running.world.app, config=config)
        operations = [result.ok() for result in schema.get_all_operations()]
        share = max(2, -(-cases // (2 * len(operations))))
        for lap, operation, mode in _laps(operations, running, cases):
            running.furnish()
            try:
                _ask_some(running, operation, mode, share, seed + lap)
            except hypothesis.errors.Unsatisfiable:
                continue  # nothing that is sent to this operation is wrong
        return Outcome(running.cases, len(operations), sorted(running.found.values()), running.statuses)
    finally:
        running.world.close()


def _laps(operations: list[Any], running: Run, cases: int) -> Iterator[tuple[int, Any, GenerationMode]]:
    lap = 0
    while running.cases < cases and lap < 100:
        for operation in operations:
            for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                if lap == 0 or running.cases < cases:
                    yield lap, operation, mode
        lap += 1


def _ask_some(running: Run, operation: Any, mode: GenerationMode, share: int, seed: int) -> None:
    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=share,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(operation.as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        running.ask(case)

    ask()


def main() -> int:
    parser = argparse.ArgumentParser(description="Run the REST API with schemathesis.")
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as directory:
        outcome = run(Path(directory), options.cases, options.seed)
    for failure in outcome.failures:
        print(failure)
    statuses = ", ".join(f"{count} x {status}" for status, count in sorted(outcome.statuses.items()))
    print(f"{outcome.cases} cases of {outcome.operations} operations, {len(outcome.failures)} defects ({statuses})")
    return 1 if outcome.failures else 0


if __name__ == "__main__":
    sys.exit(main())
