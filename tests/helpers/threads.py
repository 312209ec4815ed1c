"""Several things at once."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any


def in_threads(*works: Callable[[], Any]) -> list[Any]:
    """What each of them returned or raised when all began at the same moment, in their order."""
    begin = threading.Barrier(len(works))
    futures = [Future[Any]() for _ in works]

    def run(work: Callable[[], Any], future: Future[Any]) -> None:
        begin.wait(10)
        try:
            future.set_result(work())
        except BaseException as e:  # noqa: BLE001 - whoever began it looks at it
            future.set_exception(e)

    threads = [threading.Thread(target=run, args=pair) for pair in zip(works, futures, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [future.exception() or future.result() for future in futures]
