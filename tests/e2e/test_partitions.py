"""The suite of partitions runs: for some seconds here, for minutes in the long part of CI."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.cluster import need_postgresql


@pytest.mark.timed
@pytest.mark.timeout(400)
def test_a_short_run_violates_nothing():
    need_postgresql()
    command = [sys.executable, "-m", "lab.partitions", "--seed", "7", "--seconds", "10"]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=380)
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["0 violations"]), done.stdout + done.stderr
    (edits, beats, faults) = map(int, re.findall(r"(\d+) (?:edits|heartbeats|faults)", done.stdout))
    assert min(edits, beats, faults) > 0, done.stdout
