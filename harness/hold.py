"""Hold: a device is ours for a while. A lease in the store, and on the device the agent that keeps it (PROTOCOL.md).

    with hold(session, store, agent_path, holder) as held:
        held.set(setting)                        # journalled on the device, undone there however we end
        session.run([...], environment=held.environment)
        held.check()                             # still ours?

Whoever loses the device, by a dead connection, a killed harness or a heart that stopped beating, has left it restored:
the agent does that by itself.
"""

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from devices.errors import CommandError, ConnectionLost, DeviceError
from devices.families import FAMILIES
from devices.families.base import Setting
from devices.families.gather import Unavailable, printable
from devices.session import Session
from devices.transport.base import Conversation
from harness.errors import DeviceBusy, InfrastructureError, LeaseLost, UnsupportedError
from harness.stats.align import Exchange
from harness.store import Store
from harness.store.leases import Lease

TTL_S = 20.0
"""After so long without a sign of life the device restores itself and is free."""
BEATS = 4
"""Signs of life in one TTL_S."""
ANSWER_S = 40.0
"""The longest that the agent may take for one line: an undo command has 30 s."""
RETRY_S = 1.0


def holder_name(run_id: str) -> str:
    """Who we are, for those who wait: user would say too much, a process can be looked for."""
    return f"{run_id} on {socket.gethostname()[:40]} (process {os.getpid()})"


class Held:
    """A device that is ours; `environment` makes the launches of the agent end with the lease."""

    def __init__(
        self, store: Store, lease: Lease, path: str, conversation: Conversation, recovered: Mapping[str, Any]
    ) -> None:
        self.recovered = recovered
        """The agent's event of that name: what a killed holder had left, and was undone. Empty: nothing was left."""
        self._store, self._lease = store, lease
        self._path, self._conversation = path, conversation
        self._lost = ""
        self._speaking = threading.Lock()
        self._over = threading.Event()
        self._heart = threading.Thread(target=self._beat, name=f"lease of {lease.device}", daemon=True)
        self._heart.start()

    @property
    def lease(self) -> Lease:
        return self._lease

    @property
    def lost(self) -> str:
        """Why the device is not ours any more; empty while it is, and after an orderly end."""
        return self._lost

    @property
    def environment(self) -> Mapping[str, str]:
        return {"BENCH_LEASE": f"{self._lease.fence}:{self._path}"}

    def check(self) -> None:
        """Raises LeaseLost when the device is not ours any more."""
        if self._lost:
            raise LeaseLost(f"{self._lease.device} was held under {self._lease.fence}, which was lost: {self._lost}")

    def set(self, setting: Setting, run: Callable[[list[str]], object]) -> None:
        """Change something on the device until the end of the lease; UnsupportedError when it cannot be changed.

        `run` runs a setting's command; what undoes it is on the device before.
        """
        if setting.undo:
            self._done(setting, self._ask("undo", *setting.undo))
        if setting.command:
            run(list(setting.command))
        if setting.path:
            self._done(setting, self._ask("write", setting.path, setting.value))

    def exchange(self) -> Exchange:
        """Ask the device for its time, between two readings of ours: ties its clock to this machine's."""
        sent = time.monotonic()
        answer = self._ask("beat")
        return Exchange(sent, float(answer["t"]) * 1e-9, time.monotonic())

    def end(self) -> list[str]:
        """Give the device back; returns what could not be restored."""
        self._over.set()
        self._heart.join()
        try:
            if self._lost:
                return []
            failed = self._ask("end").get("failed", [])
            # Only when the agent has gone can the next one take the device.
            with suppress(ConnectionLost, TimeoutError):
                while True:
                    self._conversation.receive(ANSWER_S)
            return [f"{one.get('what')}: {one.get('reason')}"[:300] for one in failed if isinstance(one, dict)]
        except (LeaseLost, DeviceError, InfrastructureError) as error:
            return [str(error)]
        finally:
            with suppress(DeviceError, OSError):
                self._conversation.close()
            with suppress(InfrastructureError):
                self._store.end_lease(self._lease)

    def _done(self, setting: Setting, answer: Mapping[str, Any]) -> None:
        if answer["event"] == "refused":
            raise UnsupportedError(f"{setting.name} cannot be set: {answer.get('reason')}: {answer.get('message')}")

    def _ask(self, *words: str) -> dict[str, Any]:
        with self._speaking:
            self.check()
            try:
                self._conversation.send("\t".join(words))
                return read_event(self._conversation, ANSWER_S)
            except (ConnectionLost, TimeoutError, InfrastructureError) as error:
                self._lost = str(error) or f"no answer within {ANSWER_S:g} s"
                self.check()
                raise AssertionError("check raises") from error

    def _beat(self) -> None:
        while not self._over.wait(TTL_S / BEATS):
            try:
                self._ask("beat")
                self._lease = self._store.renew_lease(self._lease, TTL_S)
            except (InfrastructureError, DeviceError) as error:
                self._lost = self._lost or str(error)
                return


@contextmanager
def hold(session: Session, store: Store, agent: str, holder: str) -> Iterator[Held]:
    """Take a device; raises DeviceBusy when somebody else has it."""
    held = take(session, store, agent, holder)
    try:
        yield held
    finally:
        held.end()


def set_mode(session: Session, held: Held, mode: str) -> bool:
    """Bring a held device into a power mode; False when it is in it already.

    Raises UnsupportedError: to measure in another mode than the one asked for would answer another question.
    """
    name, family = session.device.name, FAMILIES[session.device.family]
    printed = ""

    def run(argv: list[str]) -> None:
        nonlocal printed
        done = session.run(argv)
        printed = f"{done.stdout} {done.stderr}".strip()

    try:
        setting = family.mode(session, mode)
        if setting is None:
            return False
        held.set(setting, run)
        # Not the status: a mode that wants a reboot asks for it and changes nothing, with status 0 or 1.
        if family.mode(session, mode) is None:
            return True
    except Unavailable as error:
        raise UnsupportedError(f"{name}: power mode {mode!r} cannot be set: {error}") from error
    command = " ".join(setting.command).replace("sudo -n", "sudo")
    raise UnsupportedError(
        f"{name} did not change to power mode {mode!r}, and said: {printable(printed)[-300:]}; run `{command}` there, "
        "and answer YES if it asks for a reboot"
    )


def steady(session: Session, held: Held) -> tuple[dict[str, str], dict[str, str]]:
    """Set what steadies the clocks of a held device: (what was set, by name; why the first that failed was refused).

    Those after a refused one may depend on it and are not tried.
    """
    done: dict[str, str] = {}
    for setting in FAMILIES[session.device.family].tuning(session):
        try:
            held.set(setting, lambda argv: session.run(argv).check())
        except (UnsupportedError, CommandError) as error:
            return done, {setting.name: str(error)[:300]}
        done[setting.name] = setting.value or "done"
    return done, {}


def take(session: Session, store: Store, agent: str, holder: str) -> Held:
    """As `hold`; whoever calls this calls `Held.end`."""
    path = f"{session.root}/lease"
    lease = _take_in_store(store, session.device.name, holder)
    deadline = time.monotonic() + TTL_S + RETRY_S
    while True:
        conversation = session.converse(_argv(agent, path, lease))
        try:
            answer, recovered = _granted(conversation)
            if answer["event"] == "held":
                return Held(store, lease, path, conversation, recovered)
            conversation.close()
            lease = _after_refusal(answer, store, lease, deadline)
        except BaseException:
            with suppress(DeviceError, OSError):
                conversation.close()
            store.end_lease(lease)
            raise


def _take_in_store(store: Store, device: str, holder: str) -> Lease:
    """Waits for the end of a hold that nobody renews: its harness was killed. DeviceBusy when somebody does."""
    until = None
    while True:
        try:
            return store.take_lease(device, holder, TTL_S)
        except DeviceBusy as busy:
            if until is not None and busy.until > until:
                raise
            until = busy.until
        time.sleep(RETRY_S)


def _argv(agent: str, path: str, lease: Lease) -> list[str]:
    fence, ttl_ms = str(lease.fence), str(round(TTL_S * 1000))
    return [agent, "lease", "--file", path, "--fence", fence, "--holder", lease.holder, "--ttl-ms", ttl_ms]


def _granted(conversation: Conversation) -> tuple[dict[str, Any], dict[str, Any]]:
    """The event that says yes or no, and the one before it that tells what a former holder left and was undone."""
    recovered: dict[str, Any] = {}
    while (answer := read_event(conversation, ANSWER_S))["event"] not in ("held", "refused"):
        recovered = answer
    return answer, recovered


def _after_refusal(answer: Mapping[str, Any], store: Store, lease: Lease, deadline: float) -> Lease:
    """The lease to try next; DeviceBusy when the device stays with somebody else."""
    if answer.get("reason") == "fence":
        # The device has seen a number of another store.
        return store.take_lease(lease.device, lease.holder, TTL_S, above=int(answer["fence"]))
    if answer.get("reason") == "busy" and time.monotonic() < deadline:
        # Perhaps a harness whose connection broke, even ourselves: the device notices that within the time to live.
        time.sleep(RETRY_S)
        return store.renew_lease(lease, TTL_S)
    who = str(answer.get("holder", "somebody else"))[:200]
    raise DeviceBusy(f"{lease.device} is held by {who}, who is alive; wait until that run ends", lease.expires)


def read_event(conversation: Conversation, timeout_s: float) -> dict[str, Any]:
    """The next event of the agent's lease; InfrastructureError for anything else. Untrusted."""
    while True:
        try:
            line = json.loads(conversation.receive(timeout_s))
        except (ValueError, RecursionError) as error:
            raise InfrastructureError("the agent's lease answered with something that is not JSON") from error
        except TimeoutError as error:
            raise InfrastructureError(f"the agent's lease gave no answer within {timeout_s:g} s") from error
        kind = line.get("type") if isinstance(line, dict) else None
        stamped = isinstance(line, dict) and isinstance(line.get("t"), int) and 0 <= line["t"] < 1 << 63
        if kind == "lease" and isinstance(line.get("event"), str) and stamped:
            return dict(line)
        if kind != "hello":
            raise InfrastructureError(f"the agent's lease answered {str(line)[:300]}")
