"""Static: activation codes of one scale for all tokens, found on calibration text.

A device then need not look for the largest activation of a token.
"""

from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from quantizers.blocks import observe, observers
from quantizers.blocks.base import Block, Task, View, Work
from quantizers.blocks.observers import Range
from quantizers.linear import QuantizedLinear, Stored
from quantizers.sizes import Sizes

GRIDS = ("attn_q", "attn_k", "attn_v", "attn_qkv")
"""Kinds of linears whose outputs attention reads."""


class Static(Block):
    """The inputs of every linear with integer activations in static codes, per tensor.

    tail: of `percentile`, the share cut at both ends. symmetric: no zero point, as Agile-Quant's signed codes.
    """

    block: Literal["static"] = "static"
    observer: Literal["min-max", "percentile", "ema", "omse"] = "min-max"
    tail: Annotated[float, Field(ge=0, lt=0.5)] = observers.TAIL
    symmetric: bool = True

    needs: ClassVar[frozenset[str]] = frozenset({"calibration"})

    def rounded(self, task: Task) -> None:
        if task.scheme.activation_bits == 16:
            return
        linear = general(task.stored)
        rows, bits = rows_of(task, linear), task.scheme.activation_bits
        if linear.inputs.factors is not None:
            rows = rows * linear.inputs.factors
        codes = observers.codes_of(self.range(rows, bits), bits, self.symmetric)
        task.stored = replace(linear, inputs=replace(linear.inputs, scale=codes.scale, zero=codes.zero))

    def range(self, rows: Tensor, bits: int) -> Range:
        """Of rows [tokens, K]."""
        match self.observer:
            case "min-max":
                return observers.min_max(rows)
            case "percentile":
                return observers.percentile(rows, self.tail)
            case "ema":
                return observers.ema(rows)
            case "omse":
                return observers.omse(rows, bits, self.symmetric)


class StaticHeads(Block):
    """The outputs of q, k and v in static int8 codes, symmetric, a scale a head (min-max)."""

    block: Literal["static-heads"] = "static-heads"

    needs: ClassVar[frozenset[str]] = frozenset({"calibration"})

    def start(self, work: Work) -> None:
        work.attention = replace(work.attention, grids={})

    def leave(self, view: View) -> None:
        own = {inner: kind for inner, kind in view.work.family.linears.items() if kind in GRIDS}
        most = _output_absmax(view, own)
        width = Sizes.of(view.work.config).head_dim
        grids = {view.name(inner): _steps(most[inner], width) for inner in own}
        view.work.attention = replace(view.work.attention, grids={**view.work.attention.grids, **grids})


def general(stored: Stored | None) -> QuantizedLinear:
    """The same linear in the form that has inputs."""
    assert stored is not None, "`rounded` comes after rounding"
    return stored if isinstance(stored, QuantizedLinear) else QuantizedLinear((stored,))


def rows_of(task: Task, linear: QuantizedLinear) -> Tensor:
    """What was seen of a linear's inputs, fp32 [S, K] in its stored columns."""
    return linear.inputs.row(task.inputs.undone(task.observed.rows))


def _output_absmax(view: View, inners: dict[str, str]) -> dict[str, Tensor]:
    """max |y| [N] of the outputs of linears."""
    watched = {inner: view.module(inner) for inner in inners}
    most = {inner: torch.zeros(()) for inner in inners}
    for one in view.inputs:
        for inner, seen in observe.outputs(watched, view.block, [one]).items():
            most[inner] = torch.maximum(most[inner], seen[0].abs().flatten(0, -2).amax(0))
    return most


def _steps(most: Tensor, width: int) -> Tensor:
    """fp32 [heads] from max |y| [heads * width]; 1 where a head is silent."""
    largest = most.view(-1, width).amax(1)
    return torch.where(largest > 0, largest / 127, 1.0)
