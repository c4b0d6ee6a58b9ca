"""Rotate: the residual stream and every value head are turned by orthogonal matrices, which spread outlier channels.

With row vectors, hidden states x become x Q: what writes them is turned by Q, and what reads them by Q too, after the
gains of norms have moved into the readers, since a root mean square does not change when x is turned (Ashkboos et al.
2024, "SliceGPT", arXiv:2401.15024, and "QuaRot", arXiv:2404.00456). A layer norm subtracts the mean besides: there Q
maps the vector of ones to itself, so that means, and what is left without them, are turned too.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from quantizers.blocks.base import Block, View, Work
from quantizers.blocks.channels import Channels, channels_of
from quantizers.errors import RecipeError
from quantizers.linear import hadamard_transform


class Rotate(Block):
    """Rotation of the residual stream (Q drawn by the work's seed) and, with `heads`, of values between v and o.

    Costs nothing on the device; a tied output becomes a matrix of its own. Transformer blocks are turned as they are
    entered, so the gradients of the whole model are of no use in such a recipe.
    """

    block: Literal["rotate"] = "rotate"
    heads: bool = True

    def start(self, work: Work) -> None:
        for name, module in work.before.items():
            if not isinstance(module, nn.Embedding):
                raise RecipeError(
                    f"rotate: {name} of a {work.family.name} model acts on hidden states and does not turn with them: "
                    "use a recipe without rotation, such as `dgq`"
                )
        head = work.model.lm_head
        head.weight = nn.Parameter(head.weight.clone(), requires_grad=False)
        work.config.tie_word_embeddings = False

    def embedding(self, work: Work) -> None:
        turn = rotation(work)
        for module in work.before.values():
            weight = module.get_parameter("weight")
            weight.copy_(weight @ turn)

    def output(self, work: Work) -> None:
        turn, head, norm = rotation(work), work.model.lm_head, work.model.get_submodule(work.family.final_norm)
        if getattr(norm, "bias", None) is not None:
            norm.bias.copy_(_over_gain(norm, work.family.final_norm) @ turn)
        head.weight *= norm.weight
        head.weight.copy_(head.weight @ turn)
        norm.weight.fill_(1)

    def enter(self, view: View) -> None:
        turn, family = rotation(view.work), view.work.family
        joints = [channels_of(view.block, joint, view.work.config) for joint in family.joints]
        readers = [one for one in joints if one.joint.producer in family.norms]
        reading = {name for one in readers for name in one.joint.consumers}
        for one in readers:
            absorb_norm(one)
            for linear in one.consumers:
                linear.weight.copy_(linear.weight @ turn)
        for name in family.linears.keys() - reading:
            _turn_outputs(view.linear(name), turn)
        for one in joints:
            if one.joint.heads and self.heads:
                turn_heads(one, orthogonal(one.width, view.work.seed).to(turn.dtype))


def rotation(work: Work) -> Tensor:
    """Q [C, C] of a work, the same whenever asked for, in the type of the model."""
    turn = orthogonal(work.config.hidden_size, work.seed)
    if isinstance(work.model.get_submodule(work.family.final_norm), nn.LayerNorm):
        turn = keeping_ones(turn)
    return turn.to(work.model.lm_head.weight.dtype)


def orthogonal(size: int, seed: int) -> Tensor:
    """A random orthogonal matrix, float64: random signs, then a Hadamard matrix.

    Where the size is m times a power of two, m odd, the Hadamard matrix is Kronecker-multiplied by one of [m, m] that
    comes from a QR decomposition of random numbers.
    """
    generator = torch.Generator().manual_seed(seed)
    power = power_of_two_in(size)
    signs = torch.randint(0, 2, (size,), generator=generator).double() * 2 - 1
    odd = torch.randn(size // power, size // power, dtype=torch.float64, generator=generator)
    hadamard = hadamard_transform(torch.eye(power, dtype=torch.float64), power)
    return signs[:, None] * torch.kron(torch.linalg.qr(odd).Q.contiguous(), hadamard)


def power_of_two_in(size: int) -> int:
    """The largest power of two that divides it."""
    return size & -size


def keeping_ones(turn: Tensor) -> Tensor:
    """Orthogonal, and maps the vector of ones to itself: a reflection between it and its image comes after."""
    ones = torch.full((len(turn),), len(turn) ** -0.5, dtype=turn.dtype)
    away = ones @ turn - ones
    if away.norm() < 1e-12:
        return turn
    away = away / away.norm()
    return turn - 2 * torch.outer(turn @ away, away)


def absorb_norm(channels: Channels) -> None:
    """The gain of a norm, and its bias where it has one, move into the linears that read it."""
    norm = channels.producer
    gain, bias = norm.get_parameter("weight"), getattr(norm, "bias", None)
    for linear in channels.consumers:
        if bias is not None:
            shift = linear.weight @ bias
            linear.bias = nn.Parameter(shift if linear.bias is None else linear.bias + shift, requires_grad=False)
        linear.weight *= gain
    gain.fill_(1)
    if bias is not None:
        bias.zero_()


def turn_heads(channels: Channels, turn: Tensor) -> None:
    """Every value head v becomes v T, T [head, head], and what consumes it takes it so."""
    for parameter in channels.producer.parameters(recurse=False):
        heads = parameter.view(-1, channels.width, *parameter.shape[1:])
        parameter.copy_((turn.T @ heads if parameter.ndim == 2 else heads @ turn).reshape(parameter.shape))
    for linear in channels.consumers:
        heads = linear.weight.view(len(linear.weight), -1, channels.width)
        linear.weight.copy_((heads @ turn).reshape(linear.weight.shape))


def _turn_outputs(linear: nn.Linear, turn: Tensor) -> None:
    linear.weight.copy_(turn.T @ linear.weight)
    if linear.bias is not None:
        linear.bias.copy_(linear.bias @ turn)


def _over_gain(norm: nn.Module, name: str) -> Tensor:
    """Bias over gain: what the output, which has no bias, leaves in the last norm."""
    gain, bias = norm.get_parameter("weight"), norm.get_parameter("bias")
    if ((gain == 0) & (bias != 0)).any():
        raise RecipeError(f"rotate: {name} has gains of zero beside a bias, which a rotation cannot keep")
    return torch.where(gain == 0, 0.0, bias / gain)
