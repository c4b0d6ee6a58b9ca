"""Compensate: what rounding adds to the outputs of a linear on average is taken back by its bias."""

from typing import ClassVar, Literal

import torch
from torch import Tensor

from quantizers.blocks.base import Block, Task
from quantizers.linear import multiply, weight_of


class BiasCorrection(Block):
    """b <- b - E[W_q x_q - W x] (Nagel et al. 2019, arXiv:1906.04721; AWEQ, Li et al. 2023, arXiv:2311.01305).

    Comes after a block that rounds. activations: x_q is x as the scheme rounds it, and the mean is that over the rows
    kept of the calibration text; otherwise only weights are rounded, and E[x] is the mean of all of the text. A linear
    without a bias gets one.
    """

    block: Literal["bias-correction"] = "bias-correction"
    activations: bool = True

    needs: ClassVar[frozenset[str]] = frozenset({"calibration"})

    def linear(self, task: Task) -> None:
        assert task.stored is not None, "bias correction comes after a block that rounds"
        error = _error_of_rows(task) if self.activations else _error_of_mean(task)
        task.bias = -error if task.bias is None else task.bias - error


def _error_of_rows(task: Task) -> Tensor:
    assert task.stored is not None
    rows = task.observed.rows
    return (multiply(task.inputs.undone(rows), task.stored) - rows @ task.weight.T).mean(0)


def _error_of_mean(task: Task) -> Tensor:
    assert task.stored is not None
    mean = task.observed.mean
    error: Tensor = torch.mv(weight_of(task.stored), task.inputs.undone(mean)) - torch.mv(task.weight, mean)
    return error
