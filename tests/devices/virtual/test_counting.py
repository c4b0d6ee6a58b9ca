"""Counting under the emulator: exact, the same in every run, and an estimate that orders loops as a core would."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from devices.virtual.counting.cycles import CORES, cycles_of
from devices.virtual.counting.emulator import Block, Emulator
from devices.virtual.counting.errors import CountingError
from devices.virtual.counting.work import hottest, joined, work_of_call

CPU = "cortex-a76"
ROUNDS, INNER = 100, 3
# As many calls as there are words on the command line; its exit status is 0.
PROGRAM = f"""
.global _start
_start:
  ldr x1, [sp]
call:
  mov x2, #{ROUNDS}
round:
  add x3, x3, x2
  subs x2, x2, #1
  b.ne round
  subs x1, x1, #1
  b.ne call
  mov x0, #0
  mov x8, #93
  svc #0
"""
PER_CALL = 1 + ROUNDS * INNER + 2
ONCE = 1 + 3
SDOT = bytes.fromhex("2094824e")  # sdot v0.4s, v1.16b, v2.16b
ADD_CHAIN = bytes.fromhex("2100008b") * 4  # add x1, x1, x0
ADDS = b"".join((0x8B000000 | number).to_bytes(4, "little") for number in (1, 2, 3, 4))  # add x<n>, x0, x0


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("program")
    (folder / "loop.S").write_text(PROGRAM)
    argv = ["cc", "-target", "aarch64-freestanding", "-nostdlib", "-static", "loop.S", "-o", "loop"]
    subprocess.run([sys.executable, "-m", "ziglang", *argv], cwd=folder, check=True)
    return folder / "loop"


@pytest.fixture(scope="module")
def count(tmp_path_factory: pytest.TempPathFactory, program: Path) -> Callable[[int], tuple[Block, ...]]:
    """The blocks of the program with so many calls."""
    machine = Emulator(tmp_path_factory.mktemp("home"))
    return lambda calls: machine.run([str(program), *["call"] * (calls - 1)], CPU).blocks


def test_every_instruction_is_counted_and_every_run_counts_the_same(
    count: Callable[[int], tuple[Block, ...]],
) -> None:
    assert sum(block.executed for block in count(2)) == ONCE + 2 * PER_CALL
    assert set(count(2)) == set(count(2))


def test_the_difference_of_runs_is_what_a_call_executes(count: Callable[[int], tuple[Block, ...]]) -> None:
    work = work_of_call([count(3), count(6), count(9)], 3)
    # The first call begins in the block of the start, the others in their own: three calls more are three of these.
    assert (work.instructions, work.left_out) == (PER_CALL, 0)
    assert max(work.blocks, key=lambda block: block.executed).instructions == INNER


def test_a_failure_is_told_with_what_was_printed(tmp_path: Path, program: Path) -> None:
    with pytest.raises(CountingError, match=r"ended with status 1 on the model nonsense: .*'nonsense'"):
        Emulator(tmp_path).run([str(program)], "nonsense")


def test_a_missing_program_is_named_with_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(CountingError, match="apt-get install qemu-user"):
        Emulator(tmp_path)
    with pytest.raises(CountingError, match="apt-get install llvm-19"):
        cycles_of([Block(0, ADDS, 1)], "A76")


def test_what_differs_from_call_to_call_is_left_out() -> None:
    def run(loops: int, digits: int) -> list[Block]:
        return [Block(0, bytes(8), loops), Block(64, bytes(4), digits), Block(128, bytes(4), 5)]

    # Once more than in the other difference, as when something interrupts a loop: the rest of the loop still counts.
    work = work_of_call([run(700, 11), run(1400, 18), run(2101, 18)], 7)
    assert work.blocks == (Block(0, bytes(8), 100),)
    assert work.left_out == pytest.approx((1 * 2 + 7) / 2 / 7)


def test_a_library_may_lie_elsewhere_in_every_run() -> None:
    runs = [[Block(page * 4096 + 16, bytes(8), 5 + 10 * (page + 1))] for page in range(3)]
    assert work_of_call(runs, 2).blocks == (Block(2 * 4096 + 16, bytes(8), 5),)


def test_a_body_that_a_page_cuts_is_one_again() -> None:
    first, second, colder = Block(0, b"aaaa", 99), Block(4, b"bbbb", 100), Block(8, b"cccc", 3)
    assert joined([colder, second, first]) == [Block(0, b"aaaabbbb", 100), colder]


def test_the_hottest_blocks_are_the_fewest_that_make_up_the_share() -> None:
    hot, warm, cold = Block(0, bytes(40), 90), Block(64, bytes(4), 80), Block(128, bytes(4), 20)
    assert hottest([cold, warm, hot], 0.9) == [hot]
    assert hottest([cold, warm, hot], 0.95) == [hot, warm]


@pytest.mark.parametrize("core", CORES)
def test_instructions_that_wait_for_each_other_take_longer(core: str) -> None:
    waiting, free = cycles_of([Block(0, ADD_CHAIN, 10)], core), cycles_of([Block(0, ADDS, 10)], core)
    assert waiting is not None and free is not None
    assert waiting > free > 0


def test_a_core_without_an_instruction_has_no_estimate() -> None:
    assert cycles_of([Block(0, SDOT, 1)], "A72") is None
    assert cycles_of([Block(0, SDOT, 1)], "A76") is not None
