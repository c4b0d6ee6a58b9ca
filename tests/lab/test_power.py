"""Power on virtual boards, through whole sessions: a plug at the wall, the boards' own sensors, power modes, idle.

Boards take their turns at the same time, each in a thread of its own: most of what is measured here is time.
"""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from devices import Device, open_session
from devices.device import MeterConfig, Target
from devices.families import FAMILIES
from devices.power import METERS
from devices.power.trace import PowerTrace
from devices.power.watch import Watch, lasting
from devices.sudoers import sudoers_text
from devices.virtual.lab import Lab, VirtualBoard
from harness.artifact import Artifact
from harness.build import build_agent
from harness.campaign import DATABASE
from harness.consumption import consumption
from harness.errors import UnsupportedError
from harness.job import Job
from harness.measurement import POWER_METRICS, Measurement
from harness.meter import metered
from harness.metered import EXCHANGES
from harness.probes.latency import mm_job
from harness.probes.power import energy_job
from harness.scheduler import DeviceWork, Event, run_jobs
from harness.session_protocol import Rules
from harness.station import Station, open_station
from harness.store import Store
from harness.store.sessions import SessionRecord
from harness.summary import publish, verify
from harness.verdict import judge

pytestmark = pytest.mark.lab

ROOT = Path(__file__).parents[2]
CASE = "w4a8g32:64x64:1"
QUICK = Rules(golden_every=0, golden_launches=0, cool_s=0.1, idle_ms=1500)
NO_IDLE = replace(QUICK, idle_ms=0)
CURRENT = "/sys/devices/platform/bus@0/c240000.i2c/i2c-1/1-0040/hwmon/hwmon1/curr1_input"
"""Of the rail through which all that a virtual Jetson takes flows, mA at 5 V."""
LONG_MS = 26_000
"""At 1 Hz the edges of a shorter window leave more than 1 % of a virtual Jetson's energy open."""
LATE_S = 6.0
MODE, OTHER_MODE, REBOOT_MODE = "15W", "25W", "7W"


class Plug:
    """Answers like a Shelly that a virtual Jetson hangs on: the mean power of the last whole second, `late_s` later.

    `times` is by how much more than the board's its power follows the load, for machines busy with other things.
    """

    def __init__(self, board: VirtualBoard, late_s: float = 0.0, times: float = 1.0) -> None:
        self.broken = False
        self.history: list[tuple[float, float]] = []
        self._board = board
        self._path = Path(f"/proc/{board.init}/root{CURRENT}")
        self._late_s, self._times, self._idle_w = late_s, times, board.board.dynamics.idle_w
        self._over = threading.Event()
        plug = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = json.dumps({"id": 0, "output": True, "apower": plug.watts(time.monotonic())}).encode()
                self.send_response(503 if plug.broken else 200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.config = MeterConfig("shelly", host="127.0.0.1", port=self._server.server_port)

    def __enter__(self) -> "Plug":
        threading.Thread(target=self._watch, daemon=True).start()
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        while not self.history:
            time.sleep(0.01)
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._server.shutdown()
        self._server.server_close()

    def watts(self, at: float) -> float:
        renewed = float(int(at - self._late_s))
        return round(self.mean(renewed - 1, renewed), 1)

    def mean(self, begin: float, end: float) -> float:
        """Over a time of this machine's clock; the first reading before there was any."""
        return fmean([watts for t, watts in list(self.history) if begin <= t < end] or [self.history[0][1]])

    def _watch(self) -> None:
        while not self._over.wait(0.05):
            # While the board rewrites the file, it may be empty.
            if text := self._path.read_text().strip():
                more = self._times * (int(text) * 5e-3 - self._idle_w)
                self.history.append((time.monotonic(), self._idle_w + more))


class FastPlug(Plug):
    """The mean power of the last 50 ms, by CPU time: the board's own sensors renew only five times a second."""

    def watts(self, at: float) -> float:
        return round(self.mean(at - self._late_s - 0.05, at - self._late_s), 2)

    def _watch(self) -> None:
        core_w, before, at = self._board.board.dynamics.core_w, 0.0, time.monotonic()
        while not self._over.wait(0.02):
            used, now = cpu_s(self._board.init or 0), time.monotonic()
            # A process that ends takes its time along.
            if used >= before:
                self.history.append((now, self._idle_w + core_w * (used - before) / (now - at)))
            before, at = used, now


def cpu_s(pid: int) -> float:
    """Seconds that a process and its descendants have run or waited for a CPU: schedstat, the first two fields, ns.

    Waiting counts, for a board has its cores for itself.
    """
    total = 0.0
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError, ValueError, IndexError):
                total += sum(map(int, (task / "schedstat").read_text().split()[:2])) * 1e-9
                total += sum(cpu_s(int(child)) for child in (task / "children").read_text().split())
    return total


@dataclass(frozen=True)
class Asked:
    """What became of one energy job in one session."""

    store: Store
    run_id: str
    job: Job
    session: SessionRecord
    plug: Plug | None = None
    station: Station | None = None
    seen: Sequence[str] = ()

    @property
    def found(self) -> Mapping[str, Measurement]:
        measured = consumption(self.store.measurements(run_id=self.run_id))
        return {one.measurement.metric: one.measurement for one in measured if one.job.key == self.job.key}

    @property
    def raws(self) -> list[Measurement]:
        return [one.measurement for one in self.store.measurements(job_keys=[self.job.key])]

    def raw(self, metric: str) -> Measurement:
        return next(one for one in self.raws if one.metric == metric)

    def step(self, name: str) -> Mapping[str, Any]:
        step = self.session.step(name)
        assert step is not None
        return {**step.data, "outcome": step.outcome}


@dataclass(frozen=True)
class Scene:
    boards: Mapping[str, VirtualBoard]
    folder: Path
    agent: Artifact

    @property
    def store(self) -> Store:
        return Store(self.folder / DATABASE)

    def ask(
        self,
        device: Device,
        watch: Watch,
        min_ms: int,
        rules: Rules = QUICK,
        on_launch: Callable[[], object] = lambda: None,
        launches: int = 1,
        **more: Any,
    ) -> Asked:
        store = self.store
        run_id = store.begin_run(device.name, "test", {})
        # Each question is a new one: what is answered is not asked again.
        identity = {"name": device.name, "run": run_id}
        work = mm_job(identity, self.agent.sha256, [CASE], iterations=5, launches=launches)
        job = energy_job(work, None if device.meter else watch.as_dict(), min_ms=min_ms)
        if device.meter:
            job = replace(job, params={**job.params, "meter": watch.as_dict()})

        def progress(event: Event) -> None:
            if event.kind == "launched":
                on_launch()

        run_jobs([DeviceWork(device, (job,))], store, run_id, [self.agent], attempts=1, rules=rules, progress=progress)
        publish(store, run_id)
        return Asked(store, run_id, job, store.sessions(run_id)[-1], **more)

    def plugged(self, name: str, plug: Plug, min_ms: int, rate_hz: float = 1.0, launches: int = 1) -> Asked:
        """A job whose power the plug gives, which renews it at that rate."""
        device = replace(self.boards[name].device, meter=plug.config)
        with open_session(device) as session:
            rails = lasting(METERS["shelly"](plug.config).find(session))
        watch = Watch("shelly", replace(rails, rate_hz=rate_hz), period_s=1 / rate_hz)
        return self.ask(device, watch, min_ms, NO_IDLE, plug=plug, launches=launches)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    folder = tmp_path_factory.mktemp("power")
    agent = build_agent(Target("aarch64"))
    lab = Lab(folder / "lab")
    boards = lab.up(["jetson-orin-nano:4", "pi5"])
    yield Scene({board.name: board for board in boards}, folder, agent)
    lab.down()


# what is asked of the boards, each in a thread


def long(scene: Scene) -> list[Asked]:
    """A window long enough for a plug."""
    board = scene.boards["jetson-orin-nano-1"]
    with Plug(board) as plug:
        return [scene.plugged(board.name, plug, LONG_MS)]


def troubled(scene: Scene) -> list[Asked]:
    """A plug that answers late, a window too short for any plug, and a plug that ceases to answer."""
    board = scene.boards["jetson-orin-nano-2"]
    with Plug(board, LATE_S, times=4.0) as plug:
        late = scene.plugged(board.name, plug, 5000)
    with Plug(board) as plug:
        short = scene.plugged(board.name, plug, 2000)
        device = replace(board.device, meter=plug.config)
        watch = Watch.from_dict(short.job.params["meter"])
        plug.broken = True
        return [late, short, scene.ask(device, watch, 1000, NO_IDLE)]


def fast(scene: Scene) -> list[Asked]:
    """A meter that sees the agent's bursts, in time and late."""
    board = scene.boards["jetson-orin-nano-4"]
    found = []
    for late_s in (0.0, 1.0):
        with FastPlug(board, late_s) as plug:
            found.append(scene.plugged(board.name, plug, 1500, 20.0, launches=2))
    return found


def in_mode(scene: Scene) -> list[Asked]:
    """A Jetson that the inventory wants in another power mode than it is in."""
    board = permitted(scene.boards["jetson-orin-nano-3"])
    device = replace(board.device, power_mode=MODE)
    store = scene.store
    station = open_station(device, lambda done, total, what: None, store, "test")
    assert station.watch is not None
    seen = [mode_of(board)]
    found = scene.ask(
        device, station.watch, 2000, on_launch=lambda: seen.append(mode_of(board)), station=station, launches=2
    )
    return [replace(found, seen=[*seen, mode_of(board)])]


def permitted(board: VirtualBoard) -> VirtualBoard:
    """With the allow-list of the bench, all power modes in it."""
    with open_session(board.device) as session:
        modes = [("/usr/sbin/nvpmodel", "-m", str(number)) for number in range(4)]
        text = sudoers_text(board.board.user, [*FAMILIES["jetson"].privileges(session), *modes])
    board.inside("sh", "-c", f"umask 337; cat >/etc/sudoers.d/bench <<'END'\n{text}END")
    return board


def mode_of(board: VirtualBoard) -> str:
    return board.inside("nvpmodel", "-q").split(": ")[1].split("\n")[0]


def disturbed(scene: Scene) -> list[Asked]:
    """A Raspberry Pi on which something begins to work after the last launch."""
    board = scene.boards["pi5"]
    station = open_station(board.device, lambda done, total, what: None, scene.store, "test")
    assert station.watch is not None
    hog = "setsid sh -c 'while :; do :; done # hog' >/dev/null 2>&1 &"
    try:
        found = scene.ask(
            board.device, station.watch, 2000, on_launch=lambda: board.inside("sh", "-c", hog), station=station
        )
    finally:
        board.inside("pkill", "-KILL", "-f", "# hog")
    return [found]


def bench(scene: Scene, *words: str) -> subprocess.CompletedProcess[str]:
    """A command of the bench, in the folder of the scene's database."""
    return subprocess.run(
        [sys.executable, "-m", "harness.cli", *words, "--out", str(scene.folder)],
        cwd=scene.folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def products(scene: Scene, after: Future[list[Asked]]) -> str:
    """What `bench kernels` says of the Jetson that was measured in another mode before."""
    after.result()
    device = scene.boards["jetson-orin-nano-3"].device
    (scene.folder / "inventory.yaml").write_text(
        f"version: 1\ndevices:\n  {device.name}:\n    family: jetson\n"
        f"    host: {device.host}\n    user: {device.user}\n"
        f"    identity_file: {device.identity_file}\n    known_hosts: {device.known_hosts}\n    power_mode: {MODE}\n"
    )
    done = bench(scene, "kernels", CASE, "--energy", "--launches", "3", "--device", device.name, "--json")
    assert done.returncode == 0, done.stderr
    return done.stdout


Answers = Mapping[str, Future[list[Asked]]]


@pytest.fixture(scope="module")
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(6) as pool:
        yield pool


@pytest.fixture(scope="module")
def answers(scene: Scene, pool: ThreadPoolExecutor) -> Answers:
    return {ask.__name__: pool.submit(ask, scene) for ask in (long, troubled, fast, in_mode, disturbed)}


@pytest.fixture(scope="module", autouse=True)
def told(scene: Scene, pool: ThreadPoolExecutor, answers: Answers) -> Future[str]:
    return pool.submit(products, scene, answers["in_mode"])


# power modes


def test_a_board_is_measured_in_the_power_mode_that_the_inventory_wants_and_put_back(answers: Answers) -> None:
    (found,) = answers["in_mode"].result()
    assert found.seen == [OTHER_MODE, MODE, MODE, OTHER_MODE]
    assert found.step("tune")["mode"] == MODE
    assert found.step("restore")["outcome"] == "done"
    assert found.station is not None
    assert found.station.facts.platform["power_mode"] == MODE
    assert found.station.identity["platform"]["power_mode"] == MODE
    assert found.raw("latency").launch_contexts()[0]["tuned"]["power mode"] == MODE


def test_a_mode_that_wants_a_reboot_is_refused_with_the_next_step(scene: Scene, told: Future[str]) -> None:
    # Two at once would be one too many for a board.
    told.result()
    board = scene.boards["jetson-orin-nano-3"]
    next_step = rf"'{REBOOT_MODE}'.*(?i:reboot).*run `sudo /usr/sbin/nvpmodel -m 3` there, and answer YES"
    with pytest.raises(UnsupportedError, match=next_step):
        open_station(replace(board.device, power_mode=REBOOT_MODE), lambda *_: None, scene.store, "test")
    assert mode_of(board) == OTHER_MODE


# idle


def test_idle_power_is_that_of_the_idle_board_and_net_energy_what_the_load_adds(answers: Answers) -> None:
    (found,) = answers["in_mode"].result()
    # On a busy machine a reader may be held up too long for a number, on one side.
    steps = [found.step(f"idle_{when}") for when in ("before", "after")]
    idle = [step["watts"] for step in steps if step["outcome"] == "done"]
    assert idle == pytest.approx([4.5] * len(idle), abs=0.3) and idle, steps
    gross, net, power = (found.found[metric] for metric in ("energy", "net_energy", "power"))
    for number, (watts,) in enumerate(power.launches):
        share = 1 - fmean(idle) / watts
        assert net.launches[number][0] == pytest.approx(share * gross.launches[number][0], rel=0.1)
    assert gross.context["boundary"] == "module, without the carrier board"
    assert "idle_changed" not in judge(net).reasons


def test_a_board_that_is_loaded_meanwhile_has_suspect_net_energy(answers: Answers) -> None:
    (found,) = answers["disturbed"].result()
    assert found.step("idle_after")["watts"] > 1.05 * found.step("idle_before")["watts"]
    net = found.found["net_energy"]
    assert judge(net).status == "suspect"
    assert "idle_changed" in judge(net).reasons
    assert any("net energy is suspect" in note for note in net.context["notes"])


# a plug at the wall


def test_a_plug_that_answers_late_has_another_clock_than_the_board(answers: Answers) -> None:
    late, _, _ = answers["troubled"].result()
    assert set(late.found) == POWER_METRICS
    for measurement in late.found.values():
        assert "two estimates of the clocks differ" in str(measurement.error)
        assert judge(measurement).status == "invalid"
        assert "clock_offset" in judge(measurement).reasons


def test_the_bursts_of_the_agent_tie_a_meter_that_sees_them_and_tell_one_that_is_late(answers: Answers) -> None:
    """In one of two launches at least: this machine may be too busy for the agent to be busy in every burst."""
    seen, late = answers["fast"].result()
    traces = metered(seen.raws, 1 / 20.0)
    assert any(isinstance(trace, PowerTrace) and trace.notes == () for trace in traces), traces
    energy = late.found["energy"]
    assert "two estimates of the clocks differ" in f"{energy.error} {energy.context.get('notes')}"


def test_a_window_too_short_for_a_plug_gives_a_reason_instead_of_a_number(answers: Answers) -> None:
    _, short, broken = answers["troubled"].result()
    assert str(short.found["energy"].error).startswith("n/a: samples are up to 1 s off, and the shortest span has 2")
    assert judge(short.found["energy"]).reasons == ("not_known",)
    assert str(broken.found["energy"].error).endswith("HTTP status 503")
    assert len(broken.raw("latency").launches[0]) > 0


def test_a_plug_gives_the_joules_of_a_board_in_a_window_long_enough(answers: Answers) -> None:
    (found,) = answers["long"].result()
    assert len(found.raw("exchange").launches[0]) == 2 * EXCHANGES * 3
    assert len(found.raw("signature").launches[0]) == 12
    energy, power = found.found["energy"], found.found["power"]
    assert energy.error is None
    assert "invalid" not in {judge(energy).status, judge(power).status}
    # On this machine the plug and the board share a clock but for its corrections by NTP.
    ahead = time.monotonic() - time.clock_gettime(time.CLOCK_MONOTONIC_RAW)
    begin, end = (edge * 1e-9 + ahead for edge in found.raw("span").launches[0])
    assert found.plug is not None
    assert power.launches[0][0] == pytest.approx(found.plug.mean(begin, end), rel=0.02)
    products = found.raw("work").launches[0][0]
    assert energy.launches[0][0] * products == pytest.approx(power.launches[0][0] * (end - begin), rel=1e-3)
    assert any("too slow for bursts" in note and "exchanges alone" in note for note in energy.context["notes"])
    assert found.found["net_energy"].error == "n/a: idle power was not measured"


# all of it


def test_every_number_and_verdict_follows_from_what_is_stored(scene: Scene, answers: Answers) -> None:
    asked = [one for future in answers.values() for one in future.result()]
    for one in asked:
        assert verify(one.store, one.run_id) == []
    done = bench(scene, "verify", asked[-1].run_id)
    assert (done.returncode, "none differ" in done.stdout) == (0, True), done.stderr


def test_the_energy_of_products_is_told_beside_their_time(told: Future[str]) -> None:
    (product,) = json.loads(told.result())
    energy = product["energy"]
    assert energy["unknown"] == ""
    assert (energy["sensor"], energy["boundary"]) == ("ina3221", "module, without the carrier board")
    assert energy["power_w"]["value"] == pytest.approx(5.1, abs=0.7)
    assert 0 < energy["net_j"]["value"] < energy["energy_j"]["value"]
    assert "too_few_launches" in energy["reasons"]
