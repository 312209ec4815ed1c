"""The fault suite: `PYTHONPATH=tests: python -m faults`. Exits with 1 when a case fails, and says how to run just that one."""

import argparse
import sys
import time
from collections.abc import Sequence

from faults import power, suite
from faults.suite import Verdict


def main() -> int:
    """Run what the command line asks for; returns the exit code."""
    options = _options()
    if options.only:
        verdict = suite.run_one(options.only)
        print(f"{verdict.case}: {'passed' if not verdict.problems else 'FAILED'} in {verdict.seconds:.2f} s")
        print("".join(f"  {problem}\n" for problem in verdict.problems), end="")
        return 1 if verdict.problems else 0
    began = time.monotonic()
    verdicts = _run(options.classes or list(suite.CLASSES), options.sample, options.scenarios or (), options.seed)
    failed = [verdict for verdict in verdicts if verdict.problems]
    print(suite.table(verdicts, time.monotonic() - began))
    print(f"seed of the power-loss states: {power.SEED}")
    if failed:
        print(f"\n{len(failed)} failed; one of them again: python -m faults --only 'CASE'")
    return 1 if failed or not verdicts else 0


def _run(classes: list[str], sample: int, scenarios: Sequence[str], seed: str) -> list[Verdict]:
    verdicts: list[Verdict] = []
    told = time.monotonic()
    for verdict in suite.run(classes, sample, suite.progress, scenarios, seed):
        verdicts.append(verdict)
        if verdict.problems:
            print(f"FAILED {verdict.case}", *verdict.problems, sep="\n  ", flush=True)
        if (now := time.monotonic()) - told > 10:
            told = now
            suite.progress(f"  {len(verdicts)} done, {sum(bool(v.problems) for v in verdicts)} failed")
    return verdicts


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m faults", description=__doc__)
    names = list(suite.CLASSES)
    parser.add_argument("--class", dest="classes", action="append", choices=names, help="only this class; repeatable")
    parser.add_argument(
        "--scenario", dest="scenarios", action="append", metavar="NAME", help="only this one; repeatable"
    )
    parser.add_argument("--sample", type=int, default=1, metavar="N", help="only every N-th case of each class")
    parser.add_argument("--seed", default="", metavar="TEXT", help="with --sample: as many, but others for every seed")
    parser.add_argument("--only", metavar="CASE", help="only this case, by the name that a failure prints")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
