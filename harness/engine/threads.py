"""One thread per device: a worker mostly waits for its device, so threads cost nothing."""

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from typing import TypeVar

T = TypeVar("T")
Task = Callable[[threading.Event], T]
"""The event asks the task to stop at the next point where nothing is lost."""


def run_on_threads(tasks: Mapping[str, Task[T]]) -> dict[str, T | BaseException]:
    """Run all tasks at once and wait for all; what one raises is its result and stops no other.

    On KeyboardInterrupt the tasks are asked to stop and waited for, then it is raised.
    """
    if not tasks:
        return {}
    stop = threading.Event()
    with ThreadPoolExecutor(max_workers=len(tasks), thread_name_prefix="device") as pool:
        futures = {name: pool.submit(task, stop) for name, task in tasks.items()}
        try:
            wait(futures.values())
        except BaseException:
            stop.set()
            raise
    return {name: future.exception() or future.result() for name, future in futures.items()}
