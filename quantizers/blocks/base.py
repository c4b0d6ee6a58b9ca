"""What the blocks of a recipe are, and what they work on.

A block takes part where it has something to do: before anything is changed (`start`), at what stands before the first
transformer block and behind the last (`embedding`, `output`), at the entry of each transformer block (`enter`), at
every linear (`linear`, and `rounded` once it has codes), and when a transformer block is done (`leave`). Transformer
blocks are processed in order, each seeing what the quantized ones before it give, so that nothing but one of them need
be in memory (quantizers/stream.py).
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BaseModel, ConfigDict
from torch import Tensor, nn

from quantizers.attention import ORDINARY, Attention
from quantizers.blocks import observe
from quantizers.blocks.observe import BlockInput, Seen
from quantizers.families import Family
from quantizers.kv_cache import FP16_CACHE, Cache
from quantizers.linear import PLAIN, Inputs, QuantizedLinear, Stored, hadamard_transform, simplest
from quantizers.models import blocks, linears
from quantizers.plan import OUTPUT, Plan
from quantizers.primitives import QuantizedWeight
from quantizers.scheme import Scheme


def _scheme_word(word: str) -> str:
    return str(Scheme.parse(word))


SchemeWord = Annotated[str, AfterValidator(_scheme_word)]
"""The word of a Scheme, of a block's or a recipe's parameter."""


class Block(BaseModel):
    """One step of a recipe, with its parameters."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    needs: ClassVar[frozenset[str]] = frozenset()
    """Of `calibration` (token windows), `moments` (E[x x^T] of linears' inputs), `gradients` (of the loss), `model`.

    `model`: all of it in memory, since `start` or a gradient goes through more than one transformer block at a time.
    """

    writes_text: ClassVar[bool] = False
    """Whether `start` sets the calibration, so that none need be given."""

    def widths(self, given: frozenset[int]) -> frozenset[int]:
        """Bits that codes of weights may have when it is done, where they could have `given` before."""
        return given

    def start(self, work: "Work") -> None:
        """Before anything is changed: the plan, the cache, what attention does. What it reads is made resident."""

    def embedding(self, work: "Work") -> None:
        """Change what stands before the first transformer block (`work.before`), which is in memory."""

    def output(self, work: "Work") -> None:
        """Change what stands behind the last (`work.behind`), likewise; a tied output is not there."""

    def enter(self, view: "View") -> None:
        """Change the weights of a transformer block such that its function stays, up to what `embedding` did."""

    def linear(self, task: "Task") -> None:
        """Prepare the inputs of a linear, round it, or correct what rounding did."""

    def rounded(self, task: "Task") -> None:
        """After all blocks have had their `linear`: what depends on the codes, such as static activations' bias."""

    def leave(self, view: "View") -> None:
        """After the linears of a transformer block hold their rounded weights."""


@dataclass(eq=False)
class Work:
    """A model on its way through a recipe. Blocks may change all of it but the calibration.

    model: a transformers model, float32, the work's own. plan: which scheme every linear gets. calibration: int64 token
    windows [B, T]. cache: how the device will keep keys and values. salient_rows: int64 rows of
    linears that a block has chosen for more bits than the plan says. resident: while resident(*modules) is open, their
    parameters are in memory; of a model that is in memory it does nothing.
    """

    model: Any
    family: Family
    plan: Plan
    calibration: Tensor | None = None
    seed: int = 0
    attention: Attention = ORDINARY
    cache: Cache = FP16_CACHE
    salient_rows: Mapping[str, Tensor] = field(default_factory=dict)
    resident: Callable[..., AbstractContextManager[None]] = lambda *_modules: nullcontext()

    @property
    def config(self) -> Any:
        return self.model.config

    @cached_property
    def gradients(self) -> Mapping[str, Tensor]:
        """dL/dW [N, K] by linear, L the mean cross-entropy of the calibration tokens, of the model as it is now."""
        from quantizers.blocks.gradients import weight_gradients

        return weight_gradients(self.model, self.windows)

    @property
    def before(self) -> dict[str, nn.Module]:
        """Modules with parameters of their own that stand before the first transformer block."""
        within = (f"{self.family.blocks}.", *self.behind)
        return {
            name: module
            for name, module in self.model.named_modules()
            if not name.startswith(within) and any(True for _ in module.parameters(recurse=False))
        }

    @property
    def behind(self) -> dict[str, nn.Module]:
        """The last norm and the output."""
        return {name: self.model.get_submodule(name) for name in (self.family.final_norm, OUTPUT)}

    def entry(self) -> list[BlockInput]:
        """What flows into the first transformer block, as the model is now."""
        with self.resident(*self.before.values()):
            return observe.entry(self.model, self.windows)

    def blocks(self, first: int = 0) -> Iterator[tuple[int, nn.Module]]:
        """Transformer blocks in order with their numbers, each in memory until the next is asked for."""
        for index, module in enumerate(blocks(self.model)):
            if index >= first:
                with self.resident(module):
                    yield index, module

    def linears(self) -> Iterator[tuple[str, nn.Linear]]:
        """Linears of the blocks in the order of computation, likewise."""
        for name, layer in linears(self.model).items():
            with self.resident(layer):
                yield name, layer

    @property
    def unplanned(self) -> list[str]:
        """Linears that the plan does not name: those to which a block may give another scheme."""
        return [name for name in linears(self.model) if name not in self.plan.layers]

    def give(self, schemes: Mapping[str, Scheme]) -> None:
        """Schemes to linears, but not to those that the plan names already."""
        self.plan = Plan(self.plan.default, {**schemes, **self.plan.layers})

    @property
    def windows(self) -> Tensor:
        assert self.calibration is not None, "a block that needs calibration says so in `needs`"
        return self.calibration


@dataclass(eq=False)
class View:
    """One transformer block of a work: its module, its number, and what flows into it."""

    work: Work
    index: int
    block: nn.Module
    inputs: list[BlockInput]
    token_weights: list[Tensor] | None = None
    """[B, T] a chunk, mean 1: how much each token counts in the moments (RSQ)."""

    def module(self, inner: str) -> nn.Module:
        return self.block.get_submodule(inner)

    def linear(self, inner: str) -> nn.Linear:
        found = self.module(inner)
        assert isinstance(found, nn.Linear)
        return found

    def name(self, inner: str) -> str:
        """`mlp.up_proj` to `model.layers.3.mlp.up_proj`."""
        return f"{self.work.family.blocks}.{self.index}.{inner}"


@dataclass(eq=False)
class Task:
    """One linear on its way to codes. A block that rounds sets `stored`; a later one may replace it.

    weight: fp32 [N, K], what is to be rounded, in the columns of `inputs.row`: a block that sets `inputs` reorders it.
    bias: fp32 [N] or None; a block may set it where there was none.
    """

    work: Work
    name: str
    inner: str
    scheme: Scheme
    weight: Tensor
    bias: Tensor | None = None
    seen: Seen | None = None
    inputs: Inputs = PLAIN
    stored: Stored | None = None

    @property
    def kind(self) -> str:
        """ggml's name, such as `ffn_down`; `output` for the output layer."""
        return self.work.family.linears.get(self.inner, "output")

    @property
    def observed(self) -> Seen:
        assert self.seen is not None, "a block that needs calibration says so in `needs`"
        return self.seen

    @property
    def moments(self) -> Tensor:
        assert self.observed.moments is not None, "a block that needs moments says so in `needs`"
        return self.observed.moments

    @property
    def gradient(self) -> Tensor:
        """dL/dW, in the columns of `weight`."""
        return self.inputs.row(self.work.gradients[self.name])

    def keep(self, weight: QuantizedWeight) -> None:
        """A rounded weight is all that is stored, but for what happens to the inputs."""
        self.stored = simplest(QuantizedLinear((weight,), self.inputs))

    def rotate(self, size: int) -> None:
        """Every `size` neighbours of the inputs from now on, with the weight and with what was seen."""
        assert self.inputs is PLAIN, "a rotation comes before anything else that happens to the inputs"
        self.inputs = Inputs(hadamard=size)
        self.weight = hadamard_transform(self.weight, size)
        self.seen = self.seen and self.seen.rotated(size)

    def reorder(self, order: Tensor) -> None:
        """Column i of the weight, and of what was seen, is from now on what column order[i] was."""
        before = self.inputs.order
        self.inputs = replace(self.inputs, order=order if before is None else before[order])
        self.weight = self.weight[:, order]
        self.seen = self.seen and self.seen.reordered(order)
