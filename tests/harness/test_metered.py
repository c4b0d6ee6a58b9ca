"""A launch that a meter watches from this machine: what is stored of it, whatever the meter does."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from devices.device import Device, MeterConfig
from devices.power.base import Rail, Rails
from devices.power.watch import Watch
from harness.artifact import Artifact
from harness.consumption import consumption
from harness.job import Job
from harness.meter import AFTER
from harness.metered import EXCHANGES, longer_s
from harness.probes.latency import mm_job
from harness.probes.power import energy_job
from harness.scheduler import DeviceWork, run_jobs
from harness.store import Store

WALL = Watch("shelly", Rails((Rail("wall", "input", "wall"),), ("wall",), "wall", rate_hz=2.0), period_s=0.5)
"""Twice as fast as plugs are: a test shall not wait."""


class Plug:
    """A Shelly that always says 5 W; `status` is that of its answers."""

    def __init__(self) -> None:
        self.status = 200
        plug = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = json.dumps({"apower": 5.0}).encode()
                self.send_response(plug.status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True


@pytest.fixture
def plug() -> Iterator[Plug]:
    running = Plug()
    threading.Thread(target=running.server.serve_forever, args=(0.01,), daemon=True).start()
    yield running
    running.server.shutdown()
    running.server.server_close()


@pytest.fixture
def ask(
    plug: Plug, real_agent: Callable[[str], Artifact], local_device: Callable[[str], Device], store: Store
) -> Callable[..., Job]:
    """Launches of one product on this machine, watched by the plug; `between` is called after each."""
    agent = real_agent("x86_64-linux")

    def run(launches: int = 1, between: Callable[[], object] = lambda: None) -> Job:
        meter = MeterConfig("shelly", host="127.0.0.1", port=plug.server.server_port)
        work = mm_job({"name": "a"}, agent.sha256, ["w4a8g32:64x64:1"], launches=launches, iterations=5)
        job = energy_job(work, None, min_ms=200)
        job = replace(job, params={**job.params, "meter": WALL.as_dict()})
        run_jobs(
            [DeviceWork(replace(local_device("a"), meter=meter), (job,))],
            store,
            store.begin_run("a", "test", {}),
            [agent],
            attempts=1,
            progress=lambda event: between() if event.kind == "launched" else None,
        )
        return job

    return run


def test_a_launch_has_its_samples_and_what_ties_the_clocks(ask: Callable[..., Job], store: Store) -> None:
    begun = time.monotonic()
    job = ask()
    rows = {one.measurement.metric: one.measurement for one in store.measurements(job_keys=[job.key])}
    assert len(rows["exchange"].launches[0]) == 2 * EXCHANGES * 3
    assert len(rows["signature"].launches[0]) == 12
    seconds = np.array(rows["meter_time"].launches[0])
    assert begun < seconds[0] < seconds[-1] < time.monotonic()
    assert set(rows["meter"].launches[0]) == {5.0}
    # Both clocks on this machine: the meter was on before the first burst, and long enough after the last.
    sent, device, received = rows["exchange"].launches[0][:3]
    first, *_, last = (edge * 1e-9 - device + (sent + received) / 2 for edge in rows["signature"].launches[0])
    assert seconds[0] < first
    assert seconds[-1] > last + AFTER / 2 - 0.1


def test_a_launch_without_readings_keeps_its_place_among_the_others(
    ask: Callable[..., Job], plug: Plug, store: Store
) -> None:
    def cease() -> None:
        plug.status = 503

    job = ask(2, cease)
    stored = store.measurements(job_keys=[job.key])
    rows = {one.measurement.metric: one.measurement for one in stored}
    assert len(rows["meter"].launches) == len(rows["meter_time"].launches) == 2
    assert np.isnan(rows["meter"].launches[1]).all()
    (energy,) = (one.measurement for one in consumption(stored) if one.measurement.metric == "energy")
    assert "too few samples" in str(energy.error)
    assert "HTTP status 503" in str(rows["meter_time"].launch_contexts()[1]["meter_unavailable"])


@pytest.mark.parametrize(
    ("rate_hz", "seconds"), [(None, 0.0), (50.0, 0.0), (10.0, 0.0), (1.0, AFTER), (0.5, 2 * AFTER)]
)
def test_only_what_is_too_slow_for_bursts_is_read_longer(rate_hz: float | None, seconds: float) -> None:
    assert longer_s(replace(WALL.rails, rate_hz=rate_hz)) == seconds
