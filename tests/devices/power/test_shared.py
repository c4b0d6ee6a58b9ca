"""A meter that several use is opened once, closed once, and never in between."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from devices.power.shared import Shared


class Meter:
    """Counts how often it is opened and closed; both take a while, as real ones do."""

    def __init__(self) -> None:
        self.opened = self.closed = 0
        self.fails = False

    @contextmanager
    def open(self) -> Iterator["Meter"]:
        time.sleep(0.01)
        if self.fails:
            raise OSError("no such meter")
        self.opened += 1
        assert self.opened == self.closed + 1, "opened while it was open"
        yield self
        time.sleep(0.01)
        self.closed += 1


def test_one_user_opens_and_closes() -> None:
    shared: Shared[Meter] = Shared()
    meter = Meter()
    for turn in (1, 2):
        with shared.use("a", meter.open) as mine:
            assert mine is meter
            assert (meter.opened, meter.closed) == (turn, turn - 1)
        assert meter.closed == turn


def test_it_is_open_until_the_last_user_leaves() -> None:
    shared: Shared[Meter] = Shared()
    meter, other = Meter(), Meter()
    with shared.use("a", meter.open):
        with shared.use("a", other.open) as mine, shared.use("b", other.open) as another:
            assert (mine, another) == (meter, other)
        assert (meter.closed, other.closed) == (0, 1)
    assert (meter.opened, meter.closed) == (1, 1)


def test_an_error_in_opening_leaves_nothing_behind() -> None:
    shared: Shared[Meter] = Shared()
    meter = Meter()
    meter.fails = True
    with pytest.raises(OSError, match="no such meter"), shared.use("a", meter.open):
        pytest.fail("it did not open")
    meter.fails = False
    with shared.use("a", meter.open):
        assert meter.opened == 1
    assert meter.closed == 1


def test_an_error_of_a_user_closes_it() -> None:
    shared: Shared[Meter] = Shared()
    meter = Meter()
    with pytest.raises(KeyError), shared.use("a", meter.open):
        raise KeyError("mine")
    assert meter.closed == 1


def test_an_error_in_closing_leaves_nothing_behind() -> None:
    shared: Shared[int] = Shared()

    @contextmanager
    def stuck() -> Iterator[int]:
        yield 1
        raise OSError("stuck")

    with pytest.raises(OSError, match="stuck"), shared.use("a", stuck):
        pass
    with shared.use("a", Meter().open) as meter:  # type: ignore[arg-type]
        assert isinstance(meter, Meter)


def test_many_threads_never_see_it_closed_or_open_twice() -> None:
    shared: Shared[Meter] = Shared()
    meters = {"a": Meter(), "b": Meter()}
    errors: list[BaseException] = []
    begin = threading.Barrier(16)

    def work(key: str) -> None:
        try:
            begin.wait()
            for _ in range(5):
                with shared.use(key, meters[key].open) as meter:
                    assert meter.opened == meter.closed + 1
                    time.sleep(0.001)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=("ab"[number % 2],)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert all(meter.opened == meter.closed >= 1 for meter in meters.values())


def test_a_slow_meter_does_not_keep_another_waiting() -> None:
    shared: Shared[None] = Shared()
    opening, release = threading.Event(), threading.Event()

    @contextmanager
    def slow() -> Iterator[None]:
        opening.set()
        assert release.wait(20)
        yield

    @contextmanager
    def quick() -> Iterator[None]:
        yield

    def hold() -> None:
        with shared.use("slow", slow):
            pass

    thread = threading.Thread(target=hold)
    thread.start()
    assert opening.wait(20)
    with shared.use("quick", quick):
        release.set()
    thread.join()
