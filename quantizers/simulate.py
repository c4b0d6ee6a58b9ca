"""Simulate: a linear as a torch module that computes as the device does."""

from torch import Tensor, nn

from quantizers.attention import snap
from quantizers.linear import Stored, multiply


class SimulatedLinear(nn.Module):
    """A linear with the arithmetic of kernels/FORMAT.md, sections 3 and 7.

    bias: what is added to the product (`linear.stored_bias`). grid: steps of the codes that heads are rounded to.
    """

    def __init__(self, stored: Stored, bias: Tensor | None = None, grid: Tensor | None = None) -> None:
        super().__init__()
        self.stored, self.bias, self.grid = stored, bias, grid

    def forward(self, x: Tensor) -> Tensor:
        y = multiply(x.float(), self.stored)
        if self.bias is not None:
            y = y + self.bias
        return y if self.grid is None else snap(y, self.grid)
