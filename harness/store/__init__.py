"""The result database: raw samples, never changed once written."""

from harness.store.answers import StoredMeasurement
from harness.store.store import AttemptRecord, Run, Store

__all__ = ["AttemptRecord", "Run", "Store", "StoredMeasurement"]
