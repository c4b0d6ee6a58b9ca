"""Recipe claims: the orderings that papers claim, held against the rows of a recipe study.

for one in held(CLAIMS, rows): print(one.claim, one.ratio, one.holds)
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from harness.recipe_study import FULL, SHIPPED, TWIN, Row


@dataclass(frozen=True)
class Claim:
    """perplexity of `better` <= at_most * that of `worse`, on a model; `worse` may be of another one (`than`)."""

    better: str
    worse: str
    model: str = SHIPPED
    at_most: float = 1.0
    source: str = ""

    def __str__(self) -> str:
        bound = "" if self.at_most == 1 else f"{self.at_most:g} x "
        return f"{self.better} <= {bound}{self.worse}, {self.model}"


@dataclass(frozen=True)
class Held:
    """ratio: geometric mean over seeds of better / worse; low, high: of single seeds; bits: of both."""

    claim: Claim
    ratio: float
    low: float
    high: float
    bits: tuple[float, float]

    @property
    def holds(self) -> bool:
        return self.ratio <= self.claim.at_most


CLAIMS = (
    Claim("gptq:w3a8g128", "rtn:w3a8g128", source="GPTQ"),
    Claim("gptq", "rtn", source="GPTQ"),
    Claim("gptq:w3a8g128", "rtn:w3a8g128", TWIN, source="GPTQ"),
    Claim("gptq", "rtn", TWIN, source="GPTQ"),
    Claim("smoothquant:w8a8", FULL, TWIN, 1.02, "SmoothQuant"),
    Claim("awq:w8a8", FULL, TWIN, 1.02, "AWQ"),
    Claim("aweq", FULL, TWIN, 1.02, "AWEQ"),
    Claim("rsq", "gptq:w3a8g128", source="RSQ"),
    Claim("rsq:w4a8g128", "gptq", source="RSQ"),
    Claim("quantease", "gptq:w3a8g128", source="QuantEase"),
    Claim("spqr:w3a16g32", "gptq:w3a16g32", TWIN, source="SpQR"),
    Claim("spqr:w3a16g32", FULL, TWIN, 1.25, "SpQR"),
    Claim("quik", "gptq:w4a4", TWIN, source="QUIK"),
    Claim("quik", FULL, TWIN, 1.25, "QUIK"),
    Claim("slim-llm", "gptq:w3a8g128", source="SliM-LLM"),
    Claim("slim-llm:w2a8g32", "gptq:w2a8g32", source="SliM-LLM"),
    Claim("mixllm", "gptq:w4a8g32", source="MixLLM"),
    Claim("agile-quant", "agile-quant-static", source="Agile-Quant's TRIP"),
    Claim("agile-quant", "agile-quant-static", TWIN, source="Agile-Quant's TRIP"),
    Claim("flexq", "rtn:w6a6ag128", source="FlexQ"),
    Claim("flexq", "rtn:w6a6ag128", TWIN, source="FlexQ"),
)


def held(claims: Iterable[Claim], rows: Sequence[Row]) -> list[Held]:
    """Those of whose both sides there are rows."""
    known = {(row.entry, row.model): row for row in rows}
    return [
        _held(claim, known[claim.better, claim.model], known[claim.worse, claim.model])
        for claim in claims
        if (claim.better, claim.model) in known and (claim.worse, claim.model) in known
    ]


def entries_of(claims: Iterable[Claim]) -> list[str]:
    """The entries that a study needs to hold against them."""
    return list(dict.fromkeys(entry for claim in claims for entry in (claim.better, claim.worse)))


def _held(claim: Claim, better: Row, worse: Row) -> Held:
    logs = np.log(better.perplexity) - np.log(worse.perplexity)
    return Held(
        claim,
        float(np.exp(logs.mean())),
        float(np.exp(logs.min())),
        float(np.exp(logs.max())),
        (better.bits, worse.bits),
    )
