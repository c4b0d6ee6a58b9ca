"""Hadamard: inputs of some linears are rotated as they arrive, where no producer can do it beforehand.

Between the product of gate and up, and down, there is nothing that a rotation can move into (Ashkboos et al. 2024,
"QuaRot", arXiv:2404.00456).
"""

from typing import Literal

from quantizers.blocks.base import Block, Task
from quantizers.blocks.rotate import power_of_two_in


class OnlineHadamard(Block):
    """Every so many neighbours, the largest power of two that divides K, by a Hadamard matrix; kinds: ggml's names."""

    block: Literal["online-hadamard"] = "online-hadamard"
    kinds: tuple[str, ...] = ("ffn_down",)

    def linear(self, task: Task) -> None:
        if task.kind in self.kinds:
            task.rotate(power_of_two_in(task.weight.shape[1]))
