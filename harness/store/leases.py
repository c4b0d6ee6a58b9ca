"""Leases in the store: who holds a device, until when, and under which fencing number.

The last row of a device decides. A fence is never used twice, so that what somebody writes under an old one is known
to be late.
"""

import time
from dataclasses import dataclass, replace

from sqlalchemy import Connection, RowMapping, select

from harness.errors import DeviceBusy, LeaseLost
from harness.store import schema
from harness.store.answers import now


@dataclass(frozen=True)
class Lease:
    """`expires` is in seconds since 1970."""

    device: str
    fence: int
    holder: str
    expires: float


def take(connection: Connection, device: str, holder: str, ttl_s: float, above: int) -> Lease:
    last = _last(connection, device)
    if last is not None and _stands(last) and last["holder"] != holder:
        left = last["expires"] - time.time()
        raise DeviceBusy(
            f"{device} is held by {last['holder']}; wait until that run ends, or {left:.0f} s if it was killed",
            last["expires"],
        )
    fence = max(last["fence"] if last is not None else 0, above) + 1
    lease = Lease(device, fence, holder, time.time() + ttl_s)
    _add(connection, lease, "taken")
    return lease


def standing(connection: Connection, device: str) -> Lease | None:
    """The lease that holds a device now."""
    last = _last(connection, device)
    if last is None or not _stands(last):
        return None
    return Lease(last["device"], last["fence"], last["holder"], last["expires"])


def renew(connection: Connection, lease: Lease, ttl_s: float) -> Lease:
    check(connection, lease)
    renewed = replace(lease, expires=time.time() + ttl_s)
    _add(connection, renewed, "renewed")
    return renewed


def end(connection: Connection, lease: Lease) -> None:
    last = _last(connection, lease.device)
    if last is not None and last["fence"] == lease.fence and last["event"] != "ended":
        _add(connection, lease, "ended")


def check(connection: Connection, lease: Lease) -> None:
    """Raises LeaseLost unless the lease is the last of its device, not given back and not run out."""
    last = _last(connection, lease.device)
    if last is None or last["fence"] != lease.fence:
        by = f"{last['holder']} under {last['fence']}" if last is not None else "nobody"
        raise LeaseLost(
            f"{lease.device} was held under {lease.fence}, and is now held by {by}: what comes late is refused"
        )
    if not _stands(last):
        raise LeaseLost(f"the hold of {lease.device} under {lease.fence} has ended: what comes late is refused")


def _last(connection: Connection, device: str) -> RowMapping | None:
    columns = schema.leases.c
    query = select(schema.leases).where(columns.device == device).order_by(columns.id.desc()).limit(1)
    return connection.execute(query).mappings().first()


def _stands(row: RowMapping) -> bool:
    return bool(row["event"] != "ended" and row["expires"] > time.time())


def _add(connection: Connection, lease: Lease, event: str) -> None:
    row = {"device": lease.device, "fence": lease.fence, "holder": lease.holder, "expires": lease.expires}
    connection.execute(schema.leases.insert(), row | {"event": event, "created": now()})
