"""Wall clocks that are wrong, for single processes: a preloaded library adds seconds to the time of day.

Nothing else is touched: the monotonic clock, sleeps and waits are the machine's. (libfaketime, as of 0.9.10, either moves the
monotonic clock too, and then waits of Python's locks do not end, or makes each sleep of Python fail.)
"""

import os
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

_LIBRARY = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <semaphore.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const long long zero, *ahead = &zero;

__attribute__((constructor)) static void map(void) {
    const char *path = getenv("WRONG_CLOCK");
    if (!path) return;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    void *mapped = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof zero, PROT_READ, MAP_SHARED, fd, 0);
    if (mapped == MAP_FAILED) abort();
    ahead = mapped;
    close(fd);
}

int clock_gettime(clockid_t id, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int failed = real(id, now);
    if (!failed && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) now->tv_sec += *ahead;
    return failed;
}

int gettimeofday(struct timeval *now, void *zone) {
    struct timespec at;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &at);
    now->tv_sec = at.tv_sec;
    now->tv_usec = at.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *to) {
    struct timespec at;
    clock_gettime(CLOCK_REALTIME, &at);
    if (to) *to = at.tv_sec;
    return at.tv_sec;
}

int sem_timedwait(sem_t *sem, const struct timespec *until) {
    static int (*real)(sem_t *, const struct timespec *);
    struct timespec at = *until;
    if (!real) real = dlsym(RTLD_NEXT, "sem_timedwait");
    at.tv_sec -= *ahead;
    return real(sem, &at);
}
"""


class WrongClock:
    """A wall clock that is some whole seconds ahead of the right one (behind it, where they are negative), and can be set."""

    def __init__(self, directory: Path, ahead: int = 0) -> None:
        compiler = shutil.which("cc")
        if not compiler and "CI" not in os.environ:
            pytest.skip("no C compiler here")
        assert compiler, "no C compiler here"
        directory.mkdir(exist_ok=True)
        self._file, library = directory / "ahead", directory / "wrong_clock.so"
        self._file.write_bytes(struct.pack("q", ahead))
        command = [compiler, "-shared", "-fPIC", "-O1", "-Wall", "-x", "c", "-o", str(library), "-", "-ldl"]
        subprocess.run(command, input=_LIBRARY.encode(), check=True, timeout=60)
        self.environment = {"LD_PRELOAD": str(library), "WRONG_CLOCK": str(self._file)}

    def set(self, ahead: int) -> None:
        """Set it, also for processes that run. The file is mapped there, so it is written in place."""
        with self._file.open("r+b", buffering=0) as file:
            file.write(struct.pack("q", ahead))
