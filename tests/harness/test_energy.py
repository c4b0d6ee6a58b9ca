"""Joules from raw rows: only the total counts, idle is subtracted, and what cannot be known is n/a."""

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.device import LOCAL
from devices.power import SENSORS
from devices.power.base import Channel, Rail, Rails, total_watts
from devices.power.pmic import SUM
from devices.power.trace import PowerTrace
from devices.power.watch import Watch
from devices.session import open_session
from devices.virtual.board import build_tree, load_board
from harness.artifact import Artifact
from harness.energy import METRICS, derive
from harness.job import Job
from harness.measurement import Measurement
from harness.meter import exchange_offset, meter_rows
from harness.probes import PROBES
from harness.probes.latency import mm_job
from harness.probes.power import energy_job, idle_job
from harness.stats.align import Exchange
from harness.store import Store
from harness.verdict import judge

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "watch.json").read_text())
BOOT = 10**15
"""Nanoseconds since boot."""
S = 10**9
PHASE = {"phase": "decode", "tokens": 100, "threads": 1}
Power = Callable[[np.ndarray], np.ndarray]
Rows = list[Measurement]


def orin(**more: Any) -> Watch:
    rails = Rails((Rail("VDD_IN", "input", "module", resolution_w=0.04),), ("VDD_IN",), "module", rate_hz=300.0)
    return Watch("ina3221", rails, (Channel("VDD_IN", ("/mw",), "power", 1e-3),), 1 / 300, **more)


def row(
    metric: str, unit: str, launches: Sequence[Sequence[float]], subject: Mapping[str, Any] | None = None
) -> Measurement:
    return Measurement("job", metric, unit, subject or {}, tuple(tuple(map(float, one)) for one in launches))


def watched(watch: Watch, begin_s: float, seconds: float, raw: Callable[[float], Sequence[float]]) -> Rows:
    """The rows of one launch; `raw(t)` is what the files hold t seconds after boot."""
    period = watch.period_s
    at = np.arange(begin_s - 2 * period, begin_s + seconds + 2 * period, period)
    columns = np.array([raw(float(t)) for t in at]).T
    ns = BOOT + at * S
    rows = [row("watch_begin", "ns since boot", [ns - 1000]), row("watch_end", "ns since boot", [ns + 1000])]
    return rows + [
        row("watch", "1", [column], {"channel": number, "path": path})
        for number, (path, column) in enumerate(zip(watch.paths, columns, strict=True))
    ]


def work_rows(begin_s: float, seconds: float, tokens: float, subject: Mapping[str, Any] = PHASE) -> Rows:
    edges = [[BOOT + begin_s * S, BOOT + (begin_s + seconds) * S]]
    return [row("span", "ns since boot", edges, subject), row("work", "token", [[tokens]], subject)]


def merged(*launches: Rows) -> Rows:
    """As the store puts launches of one job together."""
    return [
        Measurement(m[0].job_key, m[0].metric, m[0].unit, m[0].subject, tuple(one.launches[0] for one in m))
        for m in zip(*launches, strict=True)
    ]


def idle_rows(watch: Watch, begin_s: float, raw: Callable[[float], Sequence[float]], seconds: float = 10.0) -> Rows:
    return [*work_rows(begin_s, seconds, 0, {"phase": "idle"})[:1], *watched(watch, begin_s, seconds, raw)]


def stepped(
    begin_s: float, seconds: float, idle_mw: float = 2000, busy_mw: float = 8000
) -> Callable[[float], list[float]]:
    return lambda t: [busy_mw if begin_s <= t <= begin_s + seconds else idle_mw]


def by_metric(rows: Rows) -> dict[str, Measurement]:
    return {m.metric: m for m in rows}


def ordinary(watch: Watch, launches: int = 3, idle: tuple[float, float] = (2000, 2000)) -> dict[str, Measurement]:
    """Ten seconds of 8 W for 5000 tokens in each launch, between two idles."""
    raw = merged(
        *(
            [*work_rows(100 + 20 * i, 10, 5000), *watched(watch, 100 + 20 * i, 10, stepped(100 + 20 * i, 10))]
            for i in range(launches)
        )
    )
    idles = [idle_rows(watch, at, lambda t, mw=mw: [mw]) for at, mw in ((50, idle[0]), (300, idle[1]))]
    return by_metric(derive(raw, watch, idles))


def test_every_launch_has_its_joules_a_token() -> None:
    found = ordinary(orin())
    assert set(found) == set(METRICS)
    assert found["energy"].unit == "J/token" and found["energy"].subject == PHASE
    assert found["energy"].launches == tuple((pytest.approx(8 * 10 / 5000, rel=0.001),) for _ in range(3))
    assert found["net_energy"].launches[0][0] == pytest.approx(6 * 10 / 5000, rel=0.002)
    assert found["power"].launches[0][0] == pytest.approx(8.0, rel=0.001)
    assert found["peak_power"].launches[0][0] == 8.0
    assert (found["edp"].unit, found["edp"].launches[0][0]) == (
        "J*s/token",
        pytest.approx(8 * 10 / 5000 * 10 / 5000, rel=0.001),
    )


def test_the_context_says_what_is_included_and_how_well_it_is_known() -> None:
    context = ordinary(orin(gain=0.01, offset_w=0.08))["energy"].context
    assert (context["boundary"], context["rails"], context["resolution_w"]) == ("module", ["VDD_IN"], 0.04)
    # 1 % of 16 mJ, and 0.08 W for 2 ms.
    assert context["uncertainty"] == pytest.approx(np.hypot(0.01 * 0.016, 0.08 * 0.002), rel=0.02)
    (first, *_) = context["launches"]
    assert (first["units"], first["idle_before_w"], first["idle_after_w"]) == (5000, pytest.approx(2), pytest.approx(2))
    assert first["samples"] >= 2990 and first["sampling_j"] < 0.01 * first["joules"]


def test_an_offset_of_the_sensor_is_not_in_net_energy_but_a_change_of_idle_is() -> None:
    steady, changed = (ordinary(orin(offset_w=0.5), idle=idle)["net_energy"] for idle in ((2000, 2000), (2000, 2200)))
    assert steady.context["uncertainty"] < 1e-4 < changed.context["uncertainty"]
    assert changed.context["uncertainty"] == pytest.approx(0.2 / np.sqrt(12) * 0.002, rel=0.2)
    assert "idle power changed by 10%" in " ".join(changed.context["notes"])
    assert not [note for note in steady.context["notes"] if "idle" in note]


def test_idle_on_a_line_between_before_and_after_is_subtracted() -> None:
    """Idle rises by 1 W in 250 s; a launch halfway loses half of it."""
    found = ordinary(orin(), idle=(2000, 3000))["net_energy"]
    for (net,), middle in zip(found.launches, (105.0, 125.0, 145.0), strict=True):
        idle = 2.0 + (middle - 55.0) / 250.0
        assert net == pytest.approx((8 - idle) * 10 / 5000, rel=0.002)


def test_idle_on_one_side_is_said_and_none_leaves_net_energy_unknown() -> None:
    watch = orin()
    raw = [*work_rows(100, 10, 5000), *watched(watch, 100, 10, stepped(100, 10))]
    before = by_metric(derive(raw, watch, [idle_rows(watch, 50, lambda t: [2000])]))
    assert before["net_energy"].launches[0][0] == pytest.approx(0.012, rel=0.002)
    assert "idle power was measured on one side only" in before["energy"].context["notes"]
    nothing = by_metric(derive(raw, watch))
    assert nothing["net_energy"].error == "n/a: idle power was not measured"
    assert nothing["energy"].error is None
    assert judge(nothing["net_energy"]).status == "invalid"


# ---- rails


def board(name: str) -> Watch:
    return Watch.from_dict(GOLDEN[name])


def rail_values(watch: Watch, power: Mapping[str, float]) -> list[float]:
    """Raw integers that give these watts: products at 5 V."""
    values: list[float] = []
    for channel in watch.channels:
        unit = power[channel.rail] / channel.scale
        values += [round(unit)] if channel.kind == "power" else [5000, round(unit / 5000)]
    return values


@pytest.mark.parametrize("name", ["jetson-agx-orin", "jetson-orin-nano", "jetson-tx2"])
def test_nested_rails_are_never_added(name: str) -> None:
    """Every rail of the total has 4 W, every other one 100 W."""
    watch = board(name)
    power = {c.rail: 4.0 if c.rail in watch.rails.total else 100.0 for c in watch.channels}
    raw = [*work_rows(100, 30, 1000), *watched(watch, 100, 30, lambda t: rail_values(watch, power))]
    found = by_metric(derive(raw, watch))
    expected = 4.0 * len(watch.rails.total)
    assert found["power"].launches[0][0] == pytest.approx(expected, rel=0.001)
    assert found["energy"].launches[0][0] == pytest.approx(expected * 30 / 1000, rel=0.001)
    assert found["energy"].context["rails"] == list(watch.rails.total)


def test_the_wide_steps_of_an_agx_orin_are_a_warning() -> None:
    watch = board("jetson-agx-orin")
    power = {channel.rail: 3.0 for channel in watch.channels}
    raw = [*work_rows(100, 30, 1000), *watched(watch, 100, 30, lambda t: rail_values(watch, power))]
    notes = " ".join(derive(raw, watch)[0].context["notes"])
    assert "one step of the sensor is 0.4 W, above 2% of 9 W" in notes
    assert "sum of three" in notes


def test_without_a_total_there_is_no_energy() -> None:
    watch = Watch("hwmon", Rails((Rail("a", "domain", "?"),), notes=("no total: nobody says",)), orin().channels)
    raw = [*work_rows(100, 10, 1), *watched(watch, 100, 10, lambda t: [1])]
    errors = {m.error for m in derive(raw, watch)}
    assert errors == {"n/a: there is no honest total: no total: nobody says"}


def test_a_rail_of_the_total_that_was_not_read_leaves_no_smaller_sum() -> None:
    rails = Rails((Rail("a", "domain", ""), Rail("b", "domain", "")), ("a", "b"), "two")
    watch = Watch("ina3221", rails, (Channel("a", ("/a",), "power", 1.0), Channel("b", ("/b",), "power", 1.0)), 0.01)
    raw = [*work_rows(100, 10, 1), *watched(watch, 100, 10, lambda t: [2.0, float("nan")])]
    assert derive(raw, watch)[0].error == "n/a: 0 samples were read"
    # Now and then, a sample is lost: it is left out, not halved.
    holes = [
        *work_rows(100, 10, 1),
        *watched(watch, 100, 10, lambda t: [2.0, float("nan") if (t + 0.1) % 0.2 < 0.03 else 3.0]),
    ]
    assert by_metric(derive(holes, watch))["power"].launches[0][0] == pytest.approx(5.0)


def test_packages_of_rapl_add_up_over_their_wraps() -> None:
    rails = Rails((Rail("p0", "domain", ""), Rail("p1", "domain", "")), ("p0", "p1"), "packages", rate_hz=1000.0)
    channels = tuple(Channel(rail, (f"/{rail}",), "counter", 1e-6, 20_000_000) for rail in ("p0", "p1"))
    watch = Watch("rapl", rails, channels, 0.005)

    def counters(t: float) -> list[float]:
        return [int(t * 7e6) % 20_000_000, int(t * 5e6) % 20_000_000]

    raw = [*work_rows(100, 10, 1), *watched(watch, 100, 10, counters)]
    found = by_metric(derive(raw, watch))
    assert found["energy"].launches[0][0] == pytest.approx(120.0, rel=0.001)
    assert found["peak_power"].launches[0][0] == pytest.approx(12.0, rel=0.05)


def test_a_launch_without_a_number_is_left_out_and_told() -> None:
    watch = orin()
    good = [*work_rows(100, 10, 5000), *watched(watch, 100, 10, stepped(100, 10))]
    bad = [*work_rows(200, 10, 5000), *watched(watch, 200, 4, stepped(200, 10))]
    found = by_metric(derive(merged(good, bad), watch))["energy"]
    assert len(found.launches) == len(found.context["launches"]) == 1
    assert any(note.startswith("1 of 2 launches: the samples do not cover") for note in found.context["notes"])


def test_rows_that_do_not_belong_together_are_refused() -> None:
    watch = orin()
    raw = [*work_rows(100, 10, 5000), *watched(watch, 100, 10, stepped(100, 10))]
    with pytest.raises(ValueError, match="expected one row 'work'"):
        derive([m for m in raw if m.metric != "work"], watch)
    with pytest.raises(ValueError, match="expected one row 'watch'"):
        derive(raw, board("jetson-orin-nano"))


@given(st.floats(1, 50), st.floats(0.2, 20), st.floats(5, 40), st.integers(1, 10**6))
def test_any_steady_load_is_right_to_one_percent(busy: float, idle: float, seconds: float, tokens: int) -> None:
    watch = orin()
    raw = [
        *work_rows(100, seconds, tokens),
        *watched(watch, 100, seconds, stepped(100, seconds, idle * 1e3, busy * 1e3)),
    ]
    idles = [idle_rows(watch, at, lambda t: [idle * 1e3]) for at in (50, 200)]
    found = by_metric(derive(raw, watch, idles))
    if not found["energy"].launches:
        # A step that is large against the power leaves too much open at the edges of a short window.
        assert (found["energy"].error or "").startswith("n/a") and abs(busy - idle) > busy
        return
    assert found["energy"].launches[0][0] * tokens == pytest.approx(busy * seconds, rel=0.01)
    net, error = (busy - idle) * seconds, 0.01 * (busy + idle) * seconds
    assert found["net_energy"].launches[0][0] * tokens == pytest.approx(net, abs=error)


# ---- a meter outside


BURSTS = [98.0 + 0.4 * n for n in range(3)] + [110.6 + 0.4 * n for n in range(3)]


def metered(offset: float, told: float, drift: float = 0.0, rate_hz: float = 50.0, signature: bool = True) -> Rows:
    """A meter whose clock is `offset` ahead of the device's, while exchanges tell `told`."""
    at = np.arange(95.0, 116.0, 1 / rate_hz)
    power = np.where((at >= 100) & (at <= 110), 8.0, 2.0)
    for begin in BURSTS:
        power = np.where((at >= begin) & (at < begin + 0.2), 9.0, power)
    host = at + offset + drift * (at - 100)
    exchanges = [Exchange(t + told - 0.004, t, t + told + 0.004) for t in (96.0, 97.0, 113.0, 114.0)]
    edges = [device_ns(begin + part) for begin in BURSTS for part in (0.0, 0.2)]
    marks = [row("signature", "ns since boot", [edges])] if signature else []
    span = [[device_ns(100), device_ns(110)]]
    work = [row("span", "ns since boot", span, PHASE), row("work", "token", [[1000]], PHASE)]
    return [*work, *marks, *meter_rows("job", PowerTrace(host, {"wall": power}), exchanges)]


def device_ns(seconds: float) -> float:
    return seconds * S


WALL = Watch("joulescope", Rails((Rail("wall", "input", "line"),), ("wall",), "line", rate_hz=50.0))


@pytest.mark.parametrize("signature", [True, False])
def test_a_meter_on_another_clock_gives_the_same_joules(signature: bool) -> None:
    found = by_metric(derive(metered(5000.25, 5000.25, signature=signature), WALL))
    assert found["energy"].launches[0][0] == pytest.approx(0.08, rel=0.01)
    assert found["energy"].context["boundary"] == "line"


def test_clocks_on_which_two_estimates_differ_give_no_energy() -> None:
    found = derive(metered(5000.3, 5000.0), WALL)
    assert all("two estimates of the clocks differ" in str(m.error) for m in found)


def test_the_clock_of_bursts_is_preferred_to_that_of_exchanges() -> None:
    """Off by 15 ms, which is allowed; the bursts know better, and the energy is right."""
    found = by_metric(derive(metered(5000.015, 5000.0, rate_hz=500.0), WALL))
    assert found["energy"].launches[0][0] == pytest.approx(0.08, rel=0.005)


def test_exchanges_tell_drift_only_over_a_time_that_shows_it() -> None:
    near = [Exchange(t + 1.0, t, t + 1.01) for t in (0.0, 10.0)]
    far = [Exchange(t * (1 + 1e-4), t, t * (1 + 1e-4) + 0.001) for t in (0.0, 3600.0)]
    assert exchange_offset(near).drift == 0.0
    assert exchange_offset(far).drift == pytest.approx(1e-4, rel=0.01)


# ---- through the store, and with the agent


def test_rows_come_back_from_the_store_as_they_were(store: Store) -> None:
    watch = orin()
    job = Job({"machine": "x"}, "energy", {}, {"launches": 2, "watch": watch.as_dict()})
    run = store.begin_run("x", "bench", {})
    launches = []
    for begin in (100, 200):
        rows = [*work_rows(begin, 10, 5000), *watched(watch, begin, 10, stepped(begin, 10))]
        rows[-1] = row("watch", "1", [[float("nan"), *rows[-1].launches[0][1:]]], rows[-1].subject)
        launches.append([Measurement(job.key, m.metric, m.unit, m.subject, m.launches) for m in rows])
        store.append(run, job, launches[-1])
    stored = store.measurements(run)
    raw = [one.measurement for one in stored]
    again = derive(raw, Watch.from_dict(stored[0].job.params["watch"]))
    direct = derive(merged(*launches), watch)
    assert [m.launches for m in again] == [m.launches for m in direct]
    assert len(by_metric(again)["energy"].launches) == 2


def answers(real_agent: Callable[[str], Artifact], jobs: Sequence[Job]) -> list[Rows]:
    """What the agent of this checkout says to these jobs, on this machine."""
    with open_session(LOCAL) as session:
        paths = {"agent": str(real_agent(str(session.facts().target)).path)}
        return [
            PROBES[job.probe].parse(job, session.run(PROBES[job.probe].argv(job, paths)).stdout.splitlines())
            for job in jobs
        ]


@contextmanager
def counter(path: Path, watts: float) -> Iterator[None]:
    """A file that counts microjoules as a chip does that draws so much, by the clock that the agent stamps with."""
    stop = threading.Event()

    def count() -> None:
        with path.open("r+") as file:
            while not stop.is_set():
                file.seek(0)
                file.write(f"{int(time.clock_gettime(time.CLOCK_MONOTONIC_RAW) * watts * 1e6):020}\n")
                file.flush()
                time.sleep(0.001)

    path.write_text(f"{0:020}\n")
    thread = threading.Thread(target=count)
    thread.start()
    try:
        time.sleep(0.01)
        yield
    finally:
        stop.set()
        thread.join()


def test_the_agent_reads_a_counter_while_it_works(real_agent: Callable[[str], Artifact], tmp_path: Path) -> None:
    rails = Rails((Rail("package-0", "domain", ""),), ("package-0",), "package", rate_hz=1000.0)
    channel = Channel("package-0", (str(tmp_path / "energy_uj"),), "counter", 1e-6)
    watch = Watch("rapl", rails, (channel,), 0.005)
    device = {"machine": "test"}
    jobs = [
        idle_job(device, "a", watch.as_dict(), ms=1000),
        energy_job(mm_job(device, "a", ["w8a8:64x64:1"], footprint="warm", iterations=1), watch.as_dict(), min_ms=2000),
    ]
    with counter(tmp_path / "energy_uj", 5.0):
        idle, work = answers(real_agent, jobs)
    found = by_metric(derive(work, watch, [idle]))
    assert found["power"].error is None, found["power"].error
    assert found["power"].launches[0][0] == pytest.approx(5.0, rel=0.03)
    made = next(m for m in work if m.metric == "work").launches[0][0]
    seconds = np.ptp(next(m for m in work if m.metric == "span").launches[0]) * 1e-9
    assert found["energy"].launches[0][0] == pytest.approx(5.0 * seconds / made, rel=0.03)
    assert abs(found["net_energy"].launches[0][0]) < 0.05 * found["energy"].launches[0][0]


@pytest.mark.parametrize(
    ("name", "sensor", "rail"),
    [("jetson-agx-orin", "ina3221", None), ("jetson-tx2", "ina3221", "VDD_IN"), ("pi5", "pmic", SUM)],
)
def test_the_agent_reads_the_rails_of_a_board(
    name: str, sensor: str, rail: str | None, real_agent: Callable[[str], Artifact], tmp_path: Path
) -> None:
    """Files of its tree, or the text of its command: as many watts as the sensor itself reads."""
    build_tree(load_board(name), tmp_path)
    built_in = SENSORS[sensor](str(tmp_path))
    with open_session(LOCAL) as session:
        watch, sample = built_in.watch(session), built_in.read(session)
        expected = total_watts(watch.rails, sample)
    work = mm_job({}, "a", ["w8a8:64x64:1"], footprint="warm", iterations=1)
    quick = replace(watch, period_s=0.1, rails=replace(watch.rails, rate_hz=None))
    (rows,) = answers(real_agent, [energy_job(work, quick.as_dict(), min_ms=1500)])
    found = by_metric(derive(rows, quick))["power"]
    assert found.error is None, found.error
    assert found.launches[0][0] == pytest.approx(expected, rel=1e-6)
    assert rail is None or found.context["rails"] == [rail]
