"""Pruning: cascade token pruning in the torch model (Agile-Quant, Shen et al. 2023, arXiv:2312.05693).

pruning = simulate_pruning(model, shares)
model(tokens)
pruning.alive                       which tokens [B, T] no block dropped

After the attention of a block the tokens that paid least attention to the first one are dropped: neither its MLP nor
any later block sees them, and the others are numbered anew. Here nothing gets shorter: a dropped token keeps its hidden
state, from which its logits are still made, and nobody attends to it any more.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from quantizers.attention import AttentionOf
from quantizers.families import family_of
from quantizers.models import blocks


def simulate_pruning(model: Any, shares: Sequence[float]) -> "Pruning":
    """Hooks every block of a model that `simulate_attention` has met; shares: of each block, as float32 holds them."""
    pruning = Pruning(model.config.bench_attention, shares)
    norm = next(name for name, kind in family_of(model).norms.items() if kind == "ffn_norm")
    for index, block in enumerate(blocks(model)):
        step = _Step(pruning, index)
        block.register_forward_pre_hook(step.enter, with_kwargs=True)
        block.get_submodule(norm).register_forward_pre_hook(step.drop)
        block.register_forward_hook(step.leave)
    return pruning


def dropped(share: float, count: int) -> int:
    """How many of so many tokens are dropped; the device computes the same."""
    return int(float(torch.tensor(share, dtype=torch.float32)) * count)


def survivors(alive: Tensor, importance: Tensor, share: float) -> Tensor:
    """Who of those alive [B, T] is left; of equally important ones the earlier. All rows have equally many alive."""
    count = int(alive[0].sum())
    order = torch.where(alive, importance, -torch.inf).sort(dim=-1, descending=True, stable=True).indices
    kept = torch.zeros_like(alive).scatter(1, order[:, : count - dropped(share, count)], True)
    return kept & alive


class Pruning:
    """Which tokens of the pass that is under way are still there."""

    def __init__(self, attention: AttentionOf, shares: Sequence[float]) -> None:
        self.attention, self.shares = attention, tuple(shares)
        self.alive = torch.ones(0, 0, dtype=torch.bool)


class _Step:
    """The hooks of one block."""

    def __init__(self, pruning: Pruning, index: int) -> None:
        self.pruning, self.index, self.share = pruning, index, pruning.shares[index]
        self.frozen = torch.empty(0)

    def enter(self, _block: nn.Module, args: tuple[Tensor], kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        hidden = args[0]
        if self.index == 0:
            self.pruning.alive = torch.ones(hidden.shape[:2], dtype=torch.bool)
        self.frozen = hidden
        return args, kwargs if self.pruning.alive.all() else _shortened(kwargs, self.pruning.alive)

    def drop(self, _norm: nn.Module, args: tuple[Tensor]) -> None:
        """Before the MLP: those dropped here keep what attention gave them."""
        before, hidden = self.pruning.alive, args[0].view_as(self.frozen)  # OPT's are [B * T, C] here
        self.frozen = torch.where(before[..., None], hidden, self.frozen)
        if self.share:
            self.pruning.alive = survivors(before, self.pruning.attention.start[self.index], self.share)

    def leave(self, _block: nn.Module, _args: tuple[Tensor], output: Any) -> Any:
        """Some blocks give a tuple, hidden states first."""
        hidden, *rest = output if isinstance(output, tuple) else (output,)
        left = torch.where(self.pruning.alive[..., None], hidden, self.frozen)
        return (left, *rest) if isinstance(output, tuple) else left


def _shortened(arguments: dict[str, Any], alive: Tensor) -> dict[str, Any]:
    """What a block is called with: who is alive sees who is alive, at positions 0, 1, ..."""
    count = alive.shape[1]
    seen = torch.ones(count, count, dtype=torch.bool).tril() & alive[:, None, None, :]
    numbers = (alive.cumsum(1) - 1).clamp(min=0)
    angles = arguments.get("position_embeddings")  # cosines and sines [1, T, D] of models that rotate
    turned: dict[str, Any] = (
        {} if angles is None else {"position_embeddings": tuple(each[0][numbers] for each in angles)}
    )
    alibi = arguments.get("alibi")  # slope times position [B * heads, 1, T] of models that have such
    if alibi is not None:
        heads = alibi.view(len(alive), -1, count)
        turned["alibi"] = heads.gather(2, numbers[:, None].expand(heads.shape)).view(alibi.shape)
    return {**arguments, "attention_mask": seen, **turned}
