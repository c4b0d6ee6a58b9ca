"""Simulate: a linear as a torch module that computes as the device does."""

from torch import Tensor, nn

from quantizers.linear import Stored, multiply


class SimulatedLinear(nn.Module):
    """A linear with the arithmetic of kernels/FORMAT.md, sections 3 and 7."""

    def __init__(self, stored: Stored, bias: Tensor | None = None) -> None:
        super().__init__()
        self.stored, self.bias = stored, bias

    def forward(self, x: Tensor) -> Tensor:
        y = multiply(x.float(), self.stored)
        return y if self.bias is None else y + self.bias
