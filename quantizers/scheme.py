"""Scheme: how one linear layer is stored and multiplied, as a word such as `w4a8g128` or `fp16`."""

import re
from dataclasses import dataclass

from quantizers.errors import SchemeError as SchemeError

_WORD = re.compile(r"w(?P<weight>t|\d{1,2})a(?P<activation>\d{1,2})((?P<own>a?)g(?P<group>\d{1,5}))?")
WEIGHT_BITS = range(1, 9)
ACTIVATION_BITS = (*range(2, 9), 16)
GROUP_STEP = 32
MAX_GROUP = 65536
"""Groups are multiples of the 32 codes that one packed block holds along K (kernels/FORMAT.md), up to the widest."""


@dataclass(frozen=True, order=True)
class Scheme:
    """Weight bits, activation bits and weight group size along K (0: one scale per output row).

    Weights are symmetric: value = (code - 2^(bits-1)) * scale, of one bit (2 code - 1) * scale, of ternary ones
    (`wt`, stored in 2 bits) (code - 1) * scale. Activation bits 2 to 8 mean integer codes with one dynamic scale per
    token or, with `activation_groups` (`w6a8ag128`), one for every group; 16 means fp16 activations. `fp16` (weight
    bits 16) is the unquantized baseline.
    """

    weight_bits: int
    activation_bits: int
    group: int = 0
    ternary: bool = False
    activation_groups: bool = False

    def __post_init__(self) -> None:
        if self.weight_bits == 16:
            valid = self.activation_bits == 16 and self.group == 0 and not self.ternary
        else:
            valid = self.weight_bits in WEIGHT_BITS and self.activation_bits in ACTIVATION_BITS
        own = not self.activation_groups or (self.group > 0 and self.activation_bits < 16)
        stored = not self.ternary or self.weight_bits == 2
        if not (valid and own and stored and 0 <= self.group <= MAX_GROUP and self.group % GROUP_STEP == 0):
            raise SchemeError(_complaint(f"w{self.weight_bits}a{self.activation_bits}g{self.group}"))

    @classmethod
    def parse(cls, word: str) -> "Scheme":
        """Read `fp16`, `w8a8`, `w4a8g128`, `wta8`, `w6a8ag128` ...; raises SchemeError."""
        if word == "fp16":
            return FP16
        match = _WORD.fullmatch(word)
        if match is None or match["group"] == "0":
            raise SchemeError(_complaint(word))
        ternary = match["weight"] == "t"
        bits = 2 if ternary else int(match["weight"])
        try:
            scheme = cls(bits, int(match["activation"]), int(match["group"] or 0), ternary, match["own"] == "a")
        except SchemeError:
            raise SchemeError(_complaint(word)) from None
        if scheme.is_float or str(scheme) != word:
            raise SchemeError(_complaint(word))
        return scheme

    def __str__(self) -> str:
        if self.is_float:
            return "fp16"
        bits = f"w{'t' if self.ternary else self.weight_bits}a{self.activation_bits}"
        return bits + (f"{'ag' if self.activation_groups else 'g'}{self.group}" if self.group else "")

    @property
    def is_float(self) -> bool:
        return self.weight_bits == 16

    def bits_per_weight(self, columns: int) -> float:
        """Stored bits per weight of a row with `columns` inputs: codes plus one fp16 scale per group."""
        if self.is_float:
            return 16.0
        groups = -(-columns // self.group) if self.group else 1
        return self.weight_bits + 16 * groups / columns


def _complaint(word: str) -> str:
    return (
        f"{word!r} is no scheme: expected fp16, or w<1-8|t>a<2-8|16> with an optional group g<multiple of {GROUP_STEP}>"
        f" (ag<..>: of activations too), such as w4a8g128 or w8a8"
    )


FP16 = Scheme(16, 16)
