"""A sample of the fault suite: `./control faults` runs it all."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from faults.suite import sampled

REPOSITORY = Path(__file__).parents[2]
# Few, for `.ci/run` goes through others for every change: these are for who runs the tests alone.
SAMPLES = {"kill": 150, "seen": 9, "errno": 300, "power": 400, "archive": 150, "http": 60, "control": 90}
SCENARIOS = {"power": ("upgrade", "rollback")}  # to find all states of all takes longer than to try some


def faults(*options: str, directory: Path = REPOSITORY) -> subprocess.CompletedProcess[str]:
    """Run the suite; the `updater` of `directory` is what it is run on."""
    environment = os.environ | {"PYTHONPATH": f"{REPOSITORY / 'tests'}:{REPOSITORY}", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "faults", *options]
    return subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, timeout=280)


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("name", "step"), SAMPLES.items(), ids=SAMPLES.keys())
def test_a_sample_of_the_faults_is_survived(name, step):
    scenarios = [f"--scenario={scenario}" for scenario in SCENARIOS.get(name, ())]
    done = faults("--class", name, "--sample", str(step), *scenarios)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("case", ["clock:forward-between", "start:twenty"])
def test_long_runs_that_take_a_moment_go_well(case):
    done = faults("--only", f"long:{case}")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_process_ends_although_nobody_closed_its_site(tmp_path):
    """From Python 3.12 on, a worker's finalizers, which close its site, run after Python has waited for its threads."""
    program = "import sys; from pathlib import Path; from helpers.site import Site; Site(Path(sys.argv[1])).__enter__()"
    environment = os.environ | {"PYTHONPATH": f"{REPOSITORY / 'tests'}:{REPOSITORY}"}
    command = [sys.executable, "-c", program, tmp_path]
    assert subprocess.run(command, env=environment, timeout=30, check=False).returncode == 0


def test_a_seed_chooses_as_many_cases_and_the_same_ones_again():
    cases = [f"case {number:03}" for number in range(400)]
    samples = [sampled(cases, 25, seed) for seed in ("", "a", "a", "b")]
    assert [len(sample) for sample in samples] == [16] * 4
    assert samples[1] == samples[2] == sorted(samples[1])
    assert len({tuple(sample) for sample in samples}) == 3
    assert sampled(cases, 1, "a") == cases
    assert len(sampled(cases[:3], 25, "a")) == 1
