"""Session protocol: what is done on a device around its launches, so that their numbers mean something.

doctor, lease, snapshot, tune, cool, golden, idle | launches | idle, golden, snapshot, restore, verdict

    protocol = SessionProtocol(session, held, store, run_id, asked, ask, tell, Rules())
    protocol.open()
    ...                     # launches, whose context names protocol.session_id
    protocol.close()

Every step is stored (tables sessions and session_steps) and told to whoever watches. A step that the device does not
allow is `unavailable` with the reason; the verdict of every number knows what that means for it.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

from devices.doctor import checks
from devices.session import Session
from harness.energy import idle_watts
from harness.golden_model import GoldenModel, golden_model_job
from harness.health import GOLDEN_EVERY, Finding, assess_scores, forgiven, golden_job, golden_scores
from harness.hold import Held, set_mode, steady
from harness.job import Job
from harness.measurement import Measurement
from harness.probes.power import idle_job
from harness.probes.watch import power_source
from harness.store import Store
from harness.store.sessions import Outcome
from harness.verdict import session_reasons

SLOPE_S = 3.0
"""Over how long the temperature must be steady: three readings of sensors that round to whole degrees."""
POLL_S = 1.0
MAX_SLOPE_C_PER_S = 0.2
WARMER_C = 3.0
"""How far above its reference a device may begin: within it, the leakage of a phone or board moves by under 2 %."""
REFERENCE_SESSIONS = 20
MIN_IDLE_SAMPLES = 20
SHOWN_S = 0.05
"""A step that took less, and has nothing to say, is left out of the summary."""

Ask = Callable[[Job], Sequence[Measurement]]
"""One launch of a job on the device, stored."""
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Rules:
    """How thorough sessions are."""

    golden_every: int = GOLDEN_EVERY
    """Launches between two checks of a device's health."""
    golden_launches: int = 3
    """Of the golden kernel, before and after: their median is not moved by one disturbed launch."""
    golden_model: GoldenModel | None = None
    """Scored once a session: whether the device computes what it did."""
    idle_ms: int = 3000
    """At least; long enough for MIN_IDLE_SAMPLES of the sensor."""
    cool_s: float = 60.0
    """The longest that a device is waited for; what it measures hotter than usual is marked."""


@dataclass
class Note:
    """What a step has to say; filled while it is taken."""

    outcome: Outcome = "done"
    data: dict[str, Any] = field(default_factory=dict)

    def unavailable(self, reason: str) -> None:
        self.outcome, self.data["reason"] = "unavailable", reason

    def failed(self, reason: str) -> None:
        self.outcome, self.data["reason"] = "failed", reason


class SessionProtocol:
    def __init__(
        self,
        session: Session,
        held: Held,
        store: Store,
        run_id: str,
        asked: Job,
        ask: Ask,
        tell: Tell,
        rules: Rules,
        powered: Job | None = None,
    ) -> None:
        self.asked, self.rules, self._powered = asked, rules, powered
        self._session, self._held, self._store = session, held, store
        self._ask, self._tell = ask, tell
        self._device = session.device
        self._steps: list[tuple[str, float, Note]] = []
        self.computes: Finding | None = None
        self._tuned: dict[str, str] = {}
        self.session_id = store.begin_session(run_id, self._device.name)

    @property
    def golden(self) -> Job | None:
        """The golden kernel under the settings of this session: tuned and untuned clocks are never compared."""
        return golden_job(self.asked, self._tuned)

    @property
    def context(self) -> dict[str, Any]:
        """What every launch of this session says about itself."""
        return {"session": self.session_id, "tuned": self._tuned}

    def open(self) -> None:
        """Everything before the first launch. Raises BenchError or DeviceError when the device cannot be measured."""
        with self._step("lease") as note:
            note.data |= {"fence": self._held.lease.fence, "holder": self._held.lease.holder}
        with self._step("doctor") as note:
            self._examine(note)
        self._snapshot("snapshot_before")
        with self._step("tune") as note:
            self._tune(note)
        with self._step("cool") as note:
            self._cool(note)
        self._golden("golden_before")
        self._golden_model()
        self._idle("before")

    def close(self) -> None:
        """Everything after the last launch, the restoring included."""
        self._idle("after")
        self._golden("golden_after")
        self._snapshot("snapshot_after")
        with self._step("restore") as note:
            if failed := self._held.end():
                note.failed("; ".join(failed))
        self._judge()

    def abandon(self, reason: str, failed: Sequence[str]) -> None:
        """No orderly end, for `reason`; `failed` could not be restored. A device that was lost restores itself."""
        with self._step("restore") as note:
            note.data["ended"] = reason
            if self._held.lost:
                note.failed(f"not watched, the device restores itself: {reason}")
            elif failed:
                note.failed("; ".join(failed))
        self._judge()

    def fixed_cost_s(self) -> float:
        """What the protocol took, launches apart."""
        return sum(seconds for _, seconds, _ in self._steps)

    def summary(self) -> str:
        """One line for logs: each step with its time."""
        steps = [step for step in self._steps if _shown(step)]
        shown = [f"{name} {seconds:.1f} s{_remark(note)}" for name, seconds, note in steps]
        return f"session {self.session_id}: {', '.join(shown) or 'no step of note'}; {self.fixed_cost_s():.1f} s in all"

    # steps

    def _examine(self, note: Note) -> None:
        failing = {check.name: check.found for check in checks(self._session) if not check.ok}
        if failing:
            note.data["failing"] = failing
            note.failed(", ".join(failing))

    def _snapshot(self, name: str) -> None:
        with self._step(name) as note:
            note.data |= asdict(self._session.snapshot())

    def _tune(self, note: Note) -> None:
        if self._device.power_mode:
            self._set_mode(self._device.power_mode, note)
        if not self._device.tune:
            note.unavailable("not wanted")
            return
        done, refused = steady(self._session, self._held)
        self._tuned |= done
        note.data |= {"set": dict(self._tuned), "refused": refused}
        if refused:
            note.failed("; ".join(f"{name}: {reason}" for name, reason in refused.items()))
        elif not done:
            note.data["reason"] = "nothing to set: steady already, or the kernel offers no choice"

    def _set_mode(self, mode: str, note: Note) -> None:
        if set_mode(self._session, self._held, mode):
            self._tuned["power mode"] = mode
        note.data["mode"] = mode

    def _cool(self, note: Note) -> None:
        """Wait until the hottest zone is no warmer than in earlier sessions, and changes no more."""
        reference = self._reference_c()
        note.data["reference_c"] = reference
        readings: deque[tuple[float, float]] = deque()
        end = time.monotonic() + self.rules.cool_s
        while True:
            hottest = max(self._session.snapshot().temperatures_c.values(), default=None)
            if hottest is None:
                note.unavailable("the device tells no temperature")
                return
            now = time.monotonic()
            readings.append((now, hottest))
            slope = slope_c_per_s(readings)
            note.data |= {"celsius": hottest, "slope_c_per_s": slope}
            self._tell(f"cool: {hottest:.1f} °C" + (f", {reference:.1f} wanted" if reference is not None else ""))
            if is_cool(hottest, slope, reference):
                return
            if now >= end:
                note.failed(f"{hottest:.1f} °C after {self.rules.cool_s:.0f} s")
                return
            time.sleep(POLL_S)

    def _reference_c(self) -> float | None:
        """The inventory's word, or where earlier sessions of this device began; None before the first."""
        if self._device.cool_to_c is not None:
            return self._device.cool_to_c
        steps = self._store.device_steps(self._device.name, "cool")
        earlier = [step.data["celsius"] for step in steps if step.outcome == "done"]
        return median(earlier[-REFERENCE_SESSIONS:]) if earlier else None

    def _golden(self, name: str) -> None:
        golden = self.golden
        if golden is None or not self.rules.golden_launches:
            return
        with self._step(name) as note:
            found = [self._ask(golden) for _ in range(self.rules.golden_launches)]
            times = [median(m.launches[0]) for measurements in found for m in measurements if m.metric == "latency"]
            note.data |= {"job": golden.key, "launches_ns": times}
            if times:
                note.data["ns"] = median(times)
            else:
                note.failed("it gave no time")

    def _golden_model(self) -> None:
        model = self.rules.golden_model
        job = golden_model_job(self.asked, model) if model is not None else None
        if model is None or job is None:
            return
        with self._step("golden_model") as note:
            self._ask(job)
            since = forgiven(self._store.health_history(self._device.name))
            found = assess_scores(model.logprobs, *golden_scores(self._store, job, since))
            note.data |= {"job": job.key, "state": found.state, "reason": found.reason}
            if found.state != "good":
                note.failed(found.reason)
            self.computes = found

    def _idle(self, when: str) -> None:
        """Power while nothing happens, read as it is while `powered` works; nothing where no energy is measured."""
        if self._powered is None or not self.rules.idle_ms:
            return
        with self._step(f"idle_{when}") as note:
            job = self._idle_job(when)
            note.data["job"] = job.key
            rows = self._ask(job)
            found = idle_watts([rows], power_source(job)) if rows else "it gave no answer"
            if isinstance(found, str):
                note.unavailable(found)
            else:
                note.data["watts"] = found

    def _idle_job(self, when: str) -> Job:
        asked = self._powered or self.asked
        samples_ms = round(MIN_IDLE_SAMPLES * power_source(asked).period_s * 1e3)
        meter = {"meter": asked.params["meter"]} if "meter" in asked.params else {}
        return idle_job(
            asked.device,
            asked.artifacts["agent"],
            asked.params.get("watch"),
            ms=max(self.rules.idle_ms, samples_ms),
            threads=asked.params.get("threads", 1),
            cpus=asked.params.get("cpus") or (),
            session=self.session_id,
            when=when,
            **meter,
        )

    def _judge(self) -> None:
        steps = {name: note.data | {"outcome": note.outcome} for name, _, note in self._steps}
        with self._step("verdict") as note:
            note.data["reasons"] = list(session_reasons(steps))

    @contextmanager
    def _step(self, name: str) -> Iterator[Note]:
        """What is taken in the block is timed, told and stored, also when it raises."""
        self._tell(name.replace("_", " "))
        note, start = Note(), time.monotonic()
        try:
            yield note
        except BaseException as error:
            note.failed(str(error) or type(error).__name__)
            raise
        finally:
            seconds = time.monotonic() - start
            self._steps.append((name, seconds, note))
            self._store.add_step(self.session_id, name, round(seconds, 4), note.outcome, note.data)


def slope_c_per_s(readings: deque[tuple[float, float]]) -> float | None:
    """The change over the last SLOPE_S, from (seconds, °C); drops what is older; None while that is not covered."""
    newest, celsius = readings[-1]
    while len(readings) > 2 and newest - readings[1][0] >= SLOPE_S:
        readings.popleft()
    oldest, before = readings[0]
    return (celsius - before) / (newest - oldest) if newest - oldest >= SLOPE_S else None


def is_cool(celsius: float, slope: float | None, reference: float | None) -> bool:
    """Whether a device may begin: no warmer than WARMER_C above its reference, and neither heating nor cooling."""
    warm = reference is not None and celsius > reference + WARMER_C
    return not warm and slope is not None and abs(slope) <= MAX_SLOPE_C_PER_S


def _shown(step: tuple[str, float, Note]) -> bool:
    _, seconds, note = step
    return seconds >= SHOWN_S or note.outcome != "done"


def _remark(note: Note) -> str:
    return "" if note.outcome == "done" else f" ({note.outcome}: {str(note.data.get('reason', ''))[:80]})"
