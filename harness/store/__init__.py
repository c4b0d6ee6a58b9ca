"""The result database: raw samples, never changed once written."""

from harness.store.store import AttemptRecord, Run, Store, StoredMeasurement

__all__ = ["AttemptRecord", "Run", "Store", "StoredMeasurement"]
