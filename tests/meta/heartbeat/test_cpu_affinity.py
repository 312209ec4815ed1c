"""Threads that stay on one CPU."""

import os
import threading

import pytest

from meta.heartbeat.cpu_affinity import OneCpu


def where(pin):
    """The CPUs that a thread may use after it was pinned, and then once more."""
    found = []

    def work():
        pin()
        found.append(os.sched_getaffinity(0))
        pin()
        found.append(os.sched_getaffinity(0))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return found


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one CPU is all there is")
def test_every_thread_goes_to_the_same_cpu_and_nobody_else_does():
    pin, before = OneCpu(True), os.sched_getaffinity(0)
    first, second = where(pin), where(pin)
    assert first == second
    assert [len(cpus) for cpus in first] == [1, 1]
    assert os.sched_getaffinity(0) == before


def test_who_does_not_want_it_stays_as_he_is():
    before = os.sched_getaffinity(0)
    assert where(OneCpu(False)) == [before, before]
