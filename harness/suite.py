"""Suite: what a run measures. Defaults are here; a YAML file overrides any of them.

models: [quantizers/default_model]
recipes: [gptq]
devices: [local, pi5]
uniform: [fp16, w8a8, w4a8g128]        # models with one scheme, deployed and measured
candidates: [w2a8g128, w4a8g128, w8a8] # what the allocation may give a layer
budgets: [decode_ms=105%, bytes=3MB]   # see harness/limits.py
deny: {"*.down_proj": [w2a8g128]}
launches: 6
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from harness.errors import UsageError
from harness.limits import METRICS, REFERENCE, Limit, parse_limits
from harness.words import nearest
from quantizers.errors import SchemeError
from quantizers.scheme import Scheme

BASELINE = "fp16"
Names = Annotated[tuple[str, ...], Field(min_length=1)]


class Suite(BaseModel):
    """Every combination of model and recipe is a run of its own, on all devices at once."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    models: Names = ("default",)
    """Hugging Face folders or hub ids; `default` is the model that ships with the bench."""
    recipes: Names = ("gptq",)
    devices: Names = ("local",)
    uniform: Names = (BASELINE, "w8a8", "w4a8g32", "w4a8g128", "w3a8g128", "w2a8g128")
    candidates: Names = ("w8a8", "w6a8g128", "w5a8g128", "w4a8g128", "w4a8g32", "w3a8g128", "w3a8g32", "w2a8g128")
    budgets: tuple[str, ...] = ("decode_ms=105%", "bytes=110%")
    """A little more than uniform 4 bits takes: what can that buy? At exactly its time, noise would decide."""
    objective: dict[str, float] = {}
    """What is minimised: weights of metrics, each brought to 0..1 over layers and candidates (OHQ); {}: kl alone."""
    allow: dict[str, tuple[str, ...]] = {}
    deny: dict[str, tuple[str, ...]] = {}
    tied: tuple[tuple[str, ...], ...] = ()
    """Linears of a block that share a scheme, such as [[q_proj, k_proj, v_proj]]."""

    window: int = Field(256, ge=8, le=16384)
    windows: int = Field(16, ge=1, le=100_000)
    """Windows of text that are scored on the device."""
    sensitivity_windows: int = Field(4, ge=1, le=100_000)
    calibration_windows: int = Field(16, ge=1, le=100_000)
    text: Path | None = None
    """UTF-8 text to score; without one the held-out text that ships with the bench."""

    prefill: int = Field(128, ge=1, le=4096)
    decode: int = Field(64, ge=1, le=65536)
    iterations: int = Field(5, ge=1, le=10_000)
    launches: int = Field(6, ge=1, le=1000)
    """Of every measurement; for the times of models they are the pilot that says how many more it takes."""
    precision: float = Field(0.02, gt=0, le=1)
    """Half-width of the interval of a model's time, relative: launches are added until it should be that narrow."""
    max_launches: int = Field(12, ge=1, le=1000)
    energy: bool = True
    """Whether joules are measured too, on devices that have a sensor or a meter."""
    energy_ms: int = Field(2000, ge=100, le=3_600_000)
    """The shortest window of a launch whose energy is measured; a slow sensor gets a longer one."""
    energy_launches: int = Field(5, ge=1, le=1000)
    peaks: bool = True
    """Whether the limits of the device (read bandwidth, operations a second) are measured beside its products."""
    sustained_s: int = Field(0, ge=0, le=1500)
    """How long every model runs without a break, in one launch; 600 is MLPerf's, 0: none. A launch has half an hour."""
    threads: int = Field(1, ge=1, le=256)
    rounds: int = Field(3, ge=1, le=10)
    """Deployments of an allocated model at most: measure, refit, allocate again."""
    seed: int = 0

    @field_validator("uniform", "candidates")
    @classmethod
    def _are_schemes(cls, words: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(check_scheme(word) for word in words))

    @field_validator("allow", "deny")
    @classmethod
    def _hold_schemes(cls, rules: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        for words in rules.values():
            cls._are_schemes(words)
        return rules

    @field_validator("objective")
    @classmethod
    def _weighs_known_metrics(cls, weights: dict[str, float]) -> dict[str, float]:
        for metric, weight in weights.items():
            if metric not in METRICS:
                raise ValueError(f"no metric {metric!r}{nearest(metric, METRICS)}")
            if not 0 <= weight < math.inf:
                raise ValueError(f"the weight of {metric} is {weight}: expected a number from 0 up")
        return weights

    @field_validator("budgets")
    @classmethod
    def _are_limits(cls, words: tuple[str, ...]) -> tuple[str, ...]:
        parse_limits(words)
        return words

    @property
    def limits(self) -> tuple[Limit, ...]:
        return parse_limits(self.budgets)

    @property
    def deployed(self) -> tuple[str, ...]:
        """The uniform models to measure: those asked for, the baseline, and those that budgets refer to."""
        needed = [limit.scheme for limit in self.limits if limit.scheme]
        return tuple(dict.fromkeys((BASELINE, *self.uniform, *needed)))

    @property
    def costed(self) -> tuple[str, ...]:
        """The schemes whose operators are timed: candidates, and the uniform models that the fit needs."""
        return tuple(dict.fromkeys((*self.candidates, *self.deployed)))

    @property
    def lengths(self) -> tuple[int, ...]:
        """M of the operators that are timed: one token, a small batch, and the prefill."""
        return tuple(sorted({1, 16, self.prefill}))

    def runs(self) -> Iterator["Suite"]:
        """One suite for each model and recipe."""
        for model in self.models:
            for recipe in self.recipes:
                yield self.model_copy(update={"models": (model,), "recipes": (recipe,)})


@dataclass(frozen=True)
class Step:
    """A line of what `--dry-run` prints; seconds are a guess for one core and a model of a few million weights."""

    name: str
    what: str
    seconds: float


PRODUCT_S = 0.0015
"""One sample of a product: at least 1 ms, more where a single product is longer."""
LAUNCH_S = 0.25
"""Starting the agent, its clock checks and reading the load, around every launch."""
PEAK_S = 6.0
"""Three launches of a second, and the memory that each takes and writes once."""
SCORE_S_PER_TOKEN = 0.0015
FORWARD_S_PER_TOKEN = 0.00004
QUANTIZE_S = 2.0
SESSION_S = 10.0
"""What is done around the launches of a session: to let the device cool takes longer where it is hot."""


def plan(suite: Suite, shapes: int = 4, linears: int = 28) -> list[Step]:
    """What one run does, with a time estimate; `shapes` distinct (N, K) among `linears` layers."""
    cases = shapes * len(suite.lengths)
    products = len(suite.costed) * suite.launches * (LAUNCH_S + cases * 20 * PRODUCT_S)
    tokens = suite.windows * suite.window
    probes = linears * len(suite.candidates)
    deployed = len(suite.deployed)
    passes = (suite.iterations + 1) * (suite.prefill + suite.decode) * 0.0005
    llm = suite.launches * (LAUNCH_S + passes)
    score = LAUNCH_S + tokens * SCORE_S_PER_TOKEN
    uniform = deployed * (QUANTIZE_S + llm + score)
    heat = (deployed + 1) * (suite.sustained_s + SESSION_S)
    return [
        Step("build", "agent for each device (cached)", 1.0),
        Step("reference", f"{tokens} tokens, scored by {BASELINE} on the host", 2.0 + tokens * FORWARD_S_PER_TOKEN),
        Step(
            "sensitivity",
            f"{probes} layers x schemes, on the host (cached)",
            probes * suite.sensitivity_windows * suite.window * FORWARD_S_PER_TOKEN,
        ),
        Step("operators", f"{cases} shapes x {len(suite.costed)} schemes x {suite.launches} launches", products),
        *([Step("limits", "bandwidth and operations a second at best, 3 launches", PEAK_S)] if suite.peaks else []),
        Step("uniform models", f"{', '.join(suite.deployed)}: quantize, deploy, time, score", uniform),
        Step("allocation", f"minimise kl with {', '.join(suite.budgets) or 'no budget'}", 2.0),
        Step("allocated model", "quantize, deploy, time, score; compare and refine", QUANTIZE_S + llm + score),
        *([Step("sustained speed", f"every model for {suite.sustained_s} s", heat)] if suite.sustained_s else []),
        Step("report", "tables and page", 3.0),
    ]  # fmt: skip


def check_scheme(word: str) -> str:
    """The word if it is a scheme; raises UsageError with the nearest ones."""
    try:
        return str(Scheme.parse(word))
    except SchemeError as error:
        known = (*Suite.model_fields["candidates"].default, *Suite.model_fields["uniform"].default, REFERENCE)
        raise UsageError(f"{error}{nearest(word, known)}") from error


def make_suite(**settings: Any) -> Suite:
    """A suite from settings; those that are None keep their default. Raises UsageError."""
    return _validated({key: value for key, value in settings.items() if value is not None}, "suite")


def load_suite(path: Path) -> Suite:
    """Read a YAML file; raises UsageError naming file, key and the nearest key."""
    import yaml

    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not YAML: {error}") from error
    if not isinstance(data, dict):
        raise UsageError(f"{path}: expected keys such as models, recipes, devices; found {type(data).__name__}")
    return _validated(data, str(path))


def _validated(data: dict[str, Any], where: str) -> Suite:
    for key in data:
        if key not in Suite.model_fields:
            raise UsageError(f"{where}: no key {key!r}{nearest(str(key), Suite.model_fields)}")
    try:
        return Suite.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        raise UsageError(f"{where}: {key}: {first['msg']}, found {str(first['input'])[:80]!r}") from error
