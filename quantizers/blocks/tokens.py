"""Tokens: which blocks drop tokens of a prompt (Agile-Quant's cascade pruning; quantizers/pruning.py).

Which blocks and how many tokens was published for no model. Not the first ones, where attention is still local, and not
the last, where only an MLP would be saved: here every block from the middle on but the last.
"""

from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field

from quantizers.blocks.base import Block, Work
from quantizers.errors import RecipeError
from quantizers.sizes import Sizes


class Tokens(Block):
    """keep: the share of tokens that reaches the output. from_block, to_block: which prune, the second excluded."""

    block: Literal["prune-tokens"] = "prune-tokens"
    keep: Annotated[float, Field(gt=0, le=1)] = 0.9
    from_block: int | None = None
    to_block: int | None = None

    def start(self, work: Work) -> None:
        work.attention = replace(work.attention, prune=self.shares(Sizes.of(work.config).blocks))

    def shares(self, blocks: int) -> tuple[float, ...]:
        """What each block drops of its tokens: m equal shares g with (1 - g)^m = keep."""
        first = blocks // 2 if self.from_block is None else self.from_block
        end = max(first + 1, blocks - 1) if self.to_block is None else self.to_block
        if not 0 <= first < end <= blocks:
            raise RecipeError(f"prune-tokens: blocks {first} up to {end} of {blocks}: expected some of them")
        share = 1 - self.keep ** (1 / (end - first))
        return tuple(share if first <= block < end else 0.0 for block in range(blocks))
