"""Progress: how long work tells whoever waits for it. The silent one is for tests and programs."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

Advance = Callable[[int, int, str], None]
"""advance(done, total, what)"""


class Progress(Protocol):
    def step(self, name: str) -> AbstractContextManager[Advance]:
        """One visible step of the work; it ends with the block."""

    def note(self, text: str) -> None:
        """One line worth keeping."""


class Silent:
    def step(self, name: str) -> AbstractContextManager[Advance]:
        return nullcontext(lambda done, total, what: None)

    def note(self, text: str) -> None:
        pass
