"""Shared: a meter or switch that several devices hang on is opened once, and closed when its last user leaves.

    meters: Shared[Joulescope] = Shared()
    with meters.use("JS220-001", open_it) as meter:
        meter.read()

`open_it` is a context manager: what it yields is shared, and its end closes.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass
class _Entry(Generic[T]):
    users: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    closing: ExitStack = field(default_factory=ExitStack)
    opened: list[T] = field(default_factory=list)


class Shared(Generic[T]):
    """Thread-safe. Opening one thing does not keep users of another waiting."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: dict[str, _Entry[T]] = {}

    @contextmanager
    def use(self, key: str, opener: Callable[[], AbstractContextManager[T]]) -> Iterator[T]:
        """What `opener` made, for the first user of `key`; an error in it leaves nothing behind."""
        entry = self._enter(key)
        try:
            with entry.lock:
                if not entry.opened:
                    entry.opened.append(entry.closing.enter_context(opener()))
            yield entry.opened[0]
        finally:
            self._leave(key, entry)

    def _enter(self, key: str) -> _Entry[T]:
        with self._lock:
            entry = self._entries.setdefault(key, _Entry())
            entry.users += 1
            return entry

    def _leave(self, key: str, entry: _Entry[T]) -> None:
        # Closed with the lock held: who comes next must not open a thing that is still being closed.
        with self._lock:
            entry.users -= 1
            if entry.users == 0:
                del self._entries[key]
                entry.closing.close()
