"""Where the workers of a run live: one per device."""

from harness.engine.threads import run_on_threads

__all__ = ["run_on_threads"]
