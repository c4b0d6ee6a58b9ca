"""Work: what one call of a program executes, from three runs of it with calls, 2 calls and 3 calls.

Everything that happens once, such as starting and reading weights, falls out of the differences. A block counts as
often as it was executed more in both: what only one of them has is a number printed with a digit more, an interpreter
that tidies up, a thread that waited.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from devices.virtual.counting.emulator import Block

_PAGE = 4096
_SAME = 0.9
"""Neighbours run equally often if their counts differ by at most a tenth: the first round may enter elsewhere."""


@dataclass(frozen=True)
class Work:
    """`blocks` as executed in one call; `left_out` instructions a call were not the same and are not counted."""

    blocks: tuple[Block, ...]
    left_out: float

    @property
    def instructions(self) -> int:
        return sum(block.executed for block in self.blocks)


def work_of_call(runs: Sequence[Iterable[Block]], calls: int) -> Work:
    """From three runs, with `calls`, 2 `calls` and 3 `calls` calls; addresses are those of the last."""
    first, second, third = map(_executions, runs)
    addresses = {_place(block): block.address for block in runs[-1]}
    blocks, left_out = [], 0.0
    for place in first | second | third:
        steps = second[place] - first[place], third[place] - second[place]
        block = Block(addresses.get(place, place[0]), place[1], max(0, min(steps)) // calls)
        blocks += [block] if block.executions else []
        left_out += (sum(steps) / 2 / calls - block.executions) * block.instructions
    return Work(tuple(sorted(blocks, key=lambda block: block.address)), left_out)


def joined(blocks: Iterable[Block]) -> list[Block]:
    """Blocks of one body made one: those that follow each other in memory and are executed equally often.

    QEMU also ends a block where a page ends.
    """
    found: list[Block] = []
    for block in sorted(blocks, key=lambda block: block.address):
        before = next((index for index, one in enumerate(found) if _continues(one, block)), None)
        if before is None:
            found.append(block)
        else:
            one = found[before]
            found[before] = Block(one.address, one.code + block.code, max(one.executions, block.executions))
    return found


def hottest(blocks: Sequence[Block], share: float) -> list[Block]:
    """The fewest blocks that make up `share` of all executed instructions, the most executed first."""
    total = sum(block.executed for block in blocks)
    found: list[Block] = []
    for block in sorted(blocks, key=lambda block: block.executed, reverse=True):
        if sum(one.executed for one in found) >= share * total:
            break
        found.append(block)
    return found


def _continues(one: Block, block: Block) -> bool:
    low, high = sorted((one.executions, block.executions))
    return one.end == block.address and low >= _SAME * high


def _executions(blocks: Iterable[Block]) -> Counter[tuple[int, bytes]]:
    found: Counter[tuple[int, bytes]] = Counter()
    for block in blocks:
        found[_place(block)] += block.executions
    return found


def _place(block: Block) -> tuple[int, bytes]:
    """The same code at the same place of a page: libraries lie elsewhere in every run, at whole pages."""
    return block.address % _PAGE, block.code
