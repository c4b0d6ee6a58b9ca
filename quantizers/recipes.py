"""Recipes: a published system is a tuple of blocks, with the parameters that it was published with.

recipe = find("gptq")                       # one of ours, or a YAML file
recipe.to_yaml()

name: flexq
source: ...
scheme: w6a6ag128
blocks: [{block: nearest}]
targets: [{match: "*.ffn_down", scheme: w6a8ag128}]
"""

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from quantizers.blocks.activation_rule import ActivationRule
from quantizers.blocks.allocate import Allocate
from quantizers.blocks.base import Block, SchemeWord
from quantizers.blocks.clip import Clip
from quantizers.blocks.codebook import DintGptq
from quantizers.blocks.compensate import BiasCorrection
from quantizers.blocks.equalize import Equalize
from quantizers.blocks.finequant import FineQuant
from quantizers.blocks.gwq import Gwq
from quantizers.blocks.hadamard import OnlineHadamard
from quantizers.blocks.hqq import Hqq
from quantizers.blocks.kv import K_SORT, KV4, KV8, KVQUANT, VIDKV, WKVQUANT, KvCache
from quantizers.blocks.log2 import Log2
from quantizers.blocks.logarithmic import LogarithmicSmooth, StaticWithinRange
from quantizers.blocks.mixllm import MixLlm
from quantizers.blocks.percentile import PercentileSmooth
from quantizers.blocks.quantease import QuantEase
from quantizers.blocks.quik import Quik
from quantizers.blocks.rank import Rank
from quantizers.blocks.ridge import Ridge
from quantizers.blocks.rotate import Rotate
from quantizers.blocks.round import Gptq, Nearest
from quantizers.blocks.search import AqasScale, AwqScale
from quantizers.blocks.slim import Slim
from quantizers.blocks.smooth import Smooth
from quantizers.blocks.smooth_attention import SmoothAttention
from quantizers.blocks.spike import Spike
from quantizers.blocks.spqr import Spqr
from quantizers.blocks.static import Static, StaticHeads
from quantizers.blocks.synthetic import Synthetic
from quantizers.blocks.token_weights import TokenWeights
from quantizers.blocks.tokens import Tokens
from quantizers.blocks.trip import Trip
from quantizers.blocks.two_level import TwoLevel, TwoLevelGptq
from quantizers.errors import RecipeError, nearest
from quantizers.plan import Plan
from quantizers.scheme import Scheme

# fmt: off  # one a line, so that lines merge
AnyBlock = Annotated[
    ActivationRule
    | Allocate
    | AqasScale
    | AwqScale
    | BiasCorrection
    | Clip
    | DintGptq
    | Equalize
    | FineQuant
    | Gptq
    | Gwq
    | Hqq
    | KvCache
    | Log2
    | LogarithmicSmooth
    | MixLlm
    | Nearest
    | OnlineHadamard
    | PercentileSmooth
    | QuantEase
    | Quik
    | Rank
    | Ridge
    | Rotate
    | Slim
    | Smooth
    | SmoothAttention
    | Spike
    | Spqr
    | Static
    | StaticHeads
    | StaticWithinRange
    | Synthetic
    | TokenWeights
    | Tokens
    | Trip
    | TwoLevel
    | TwoLevelGptq,
    Field(discriminator="block"),
]
# fmt: on
"""Every block that a recipe may name."""
_BLOCKS: dict[str, type[Block]] = {
    str(block.model_fields["block"].default): block for block in get_args(get_args(AnyBlock)[0])
}


class Target(BaseModel):
    """Linears that get a scheme of their own: match is a pattern of their name or of `blk.<i>.<ggml's kind>`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    match: str
    scheme: SchemeWord


class Recipe(BaseModel):
    """What is done to a model, in order, and where it was published.

    scheme: of all linears unless somebody wishes another. targets: linears that depart from it, the first that matches.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    source: str
    blocks: tuple[AnyBlock, ...]
    scheme: SchemeWord = "w4a8g128"
    targets: tuple[Target, ...] = ()

    @property
    def needs(self) -> frozenset[str]:
        """What its blocks need: of `calibration`, `moments`, `gradients`, `model`."""
        return frozenset().union(*(block.needs for block in self.blocks))

    @property
    def bits(self) -> frozenset[int]:
        """Bits that codes of its weights may have; 16 for linears that stay fp16."""
        found = frozenset({Scheme.parse(self.scheme).weight_bits})
        for block in self.blocks:
            found = block.widths(found)
        return found | {Scheme.parse(target.scheme).weight_bits for target in self.targets}

    @property
    def streams(self) -> bool:
        """Whether a model need not fit into memory (quantizers/stream.py)."""
        return "model" not in self.needs

    @property
    def metric(self) -> str | None:
        """What its own allocation weighs against cost: a name in metrics.METRICS."""
        return next((block.metric for block in self.blocks if isinstance(block, Allocate)), None)

    @property
    def params(self) -> str:
        """The blocks with their parameters, as text for reports."""
        return " + ".join(map(_described, self.blocks))

    def plan(self, names: dict[str, str], default: Scheme | None = None) -> Plan:
        """The plan of its targets; names: linears and what else they are called. default: instead of its scheme."""
        layers = {}
        for name, alias in names.items():
            found = next((one for one in self.targets if _matches(one.match, name, alias)), None)
            if found is not None:
                layers[name] = Scheme.parse(found.scheme)
        return Plan(default or Scheme.parse(self.scheme), layers)

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.model_dump(mode="json", exclude_defaults=False), sort_keys=False)

    @classmethod
    def from_yaml(cls, text: str, where: str = "recipe") -> "Recipe":
        """Raises RecipeError with `where` and the entry that is wrong."""
        try:
            return cls.model_validate(yaml.safe_load(text))
        except yaml.YAMLError as error:
            raise RecipeError(f"{where}: not YAML: {error}") from error
        except ValidationError as error:
            raise RecipeError(f"{where}: {_complaint(error)}") from error


def _complaint(error: ValidationError) -> str:
    """The first entry that is wrong, such as `blocks.0.gptq.damp`, and with what."""
    first = error.errors(include_url=False)[0]
    place = [str(part) for part in first["loc"]]
    entry, found = ".".join(place), str(first["input"])[:80]
    match first["type"]:
        case "union_tag_invalid":
            return f"{entry}: no block {first['ctx']['tag']!r}; nearest: {nearest(first['ctx']['tag'], _BLOCKS)}"
        case "union_tag_not_found":
            return f"{entry}: expected `block` with a name, such as {{block: gptq}}, found {found!r}"
        case "extra_forbidden":
            return f"{entry}: no such entry; nearest: {nearest(place[-1], _entries(place[:-1]))}"
        case "missing":
            return f"{entry} is missing"
        case "tuple_type":
            return f"{entry}: expected a list, found {found!r}"
        case "model_type" if not place:
            return f"expected the entries {', '.join(Recipe.model_fields)}, found {found!r}"
    return f"{entry}: {first['msg']}, found {found!r}"


def _entries(place: Sequence[str]) -> Iterable[str]:
    """Of what stands at (), (`blocks`, `0`, `gptq`) or (`targets`, `0`)."""
    kind: type[BaseModel] = Recipe if not place else _BLOCKS[place[2]] if place[0] == "blocks" else Target
    return kind.model_fields


def _matches(pattern: str, name: str, alias: str) -> bool:
    return fnmatchcase(name, pattern) or fnmatchcase(alias, pattern)


def _described(block: Block) -> str:
    parameters = ", ".join(f"{name}={value!r}" for name, value in block if name != "block")
    return f"{type(block).__name__}({parameters})"


def _recipe(name: str, source: str, *blocks: Block, **others: object) -> Recipe:
    return Recipe(name=name, source=source, blocks=blocks, **others)  # type: ignore[arg-type]


def _agile(name: str, inputs: Block, *targets: Target, note: str = "") -> Recipe:
    blocks = (inputs, Gptq(act_order=True), StaticHeads(), Log2(), Tokens())
    return _recipe(name, f"Shen et al. 2023, arXiv:2312.05693{note}", *blocks, targets=targets)


def _target(match: str, scheme: str) -> Target:
    return Target(match=match, scheme=scheme)


LAYER_WISE = "Dumitru et al. 2024, arXiv:2406.17415"
QUARTER: Any = {"bits": (2, 4), "shares": (0.25, 0.75), "whole_blocks": True}
"""The paper's models stay near full precision until a quarter or half of the blocks have 2 bits."""
CPTQUANT = "Nanda et al. 2024, arXiv:2412.03599; the widths are ours"
THIRDS: Any = {"bits": (3, 4, 5), "shares": (1 / 3, 1 / 3, 1 / 3)}
FLEXQ = "Zhang et al. 2025, arXiv:2508.04405"

RECIPES = {
    recipe.name: recipe
    for recipe in (
        _recipe("rtn", "round to nearest: the baseline of every paper", Nearest()),
        _recipe(
            "hqq",
            "Badri and Shaji 2023, Half-Quadratic Quantization of Large Machine Learning Models",
            Hqq(),
            scheme="w4a8g64",
        ),
        _recipe("gptq", "Frantar et al. 2023, arXiv:2210.17323", Gptq()),
        _recipe("kv8", "int8 keys and values, a scale per token and head", Nearest(), KV8, scheme="w8a8"),
        _recipe("kv4", "Lin et al. 2024 (QServe), arXiv:2405.04532: its 4-bit cache", Nearest(), KV4, scheme="w8a8"),
        _recipe("kvquant", "Hooper et al. 2024, arXiv:2401.18079", Nearest(), KVQUANT, scheme="fp16"),
        _recipe("wkvquant", "Yue et al. 2024, arXiv:2402.12065: its cache and past-only rule", Gptq(), WKVQUANT),
        _recipe("k-sort", "Trukhanov and Soloveychik 2024, arXiv:2403.20137", Nearest(), K_SORT, scheme="fp16"),
        _recipe("vidkv", "Tao et al. 2025, arXiv:2503.16257: without its FFT", Nearest(), VIDKV, scheme="fp16"),
        _recipe("spqr", "Dettmers et al. 2023, arXiv:2306.03078", Spqr(), scheme="w3a8g32"),
        _recipe(
            "quik",
            "Ashkboos et al. 2023, arXiv:2310.09259",
            Quik(),
            scheme="w4a4",
            targets=(Target(match="*.ffn_down", scheme="w8a8"),),
        ),
        _recipe("quantease", "Behdin et al. 2023, arXiv:2309.01885", QuantEase(), scheme="w3a8g128"),
        _recipe(
            "quantease-outliers",
            "Behdin et al. 2023, arXiv:2309.01885: with a sparse part",
            QuantEase(outliers=0.01),
            scheme="w3a8g128",
        ),
        _recipe(
            "rsq",
            "Sung et al. 2025, arXiv:2503.01820",
            Rotate(),
            OnlineHadamard(),
            TokenWeights(),
            Gptq(),
            scheme="w3a8g128",
        ),
        _recipe("erq", "Zhong et al. 2024, arXiv:2407.06794", Ridge(), Gptq(), scheme="w4a4"),
        _recipe("finequant", "Kim et al. 2023, arXiv:2308.09723", FineQuant(), Nearest(), scheme="w4a8"),
        _recipe("smoothquant", "Xiao et al. 2023, arXiv:2211.10438", Smooth(), Nearest()),
        _agile("agile-quant", Trip()),
        _agile("agile-quant-static", Static(), note=": with one static scale instead of TRIP"),
        _agile(
            "agile-quant-a4", Trip(), *(Target(match=site, scheme="w4a4g128") for site in ("*.attn_output", "*.ffn_*"))
        ),
        _recipe(
            "whitepaper",
            "Krishnamoorthi 2018, arXiv:1806.08342",
            Nearest(),
            Static(observer="percentile", symmetric=False),
            scheme="w8a8",
        ),
        _recipe("slim-llm", "Huang et al. 2024, arXiv:2405.14917", Slim(), scheme="w3a8g128"),
        _recipe("mixllm", "Zheng et al. 2024, arXiv:2412.14590", MixLlm(), scheme="w4a8ag128"),
        _recipe("gwq", "Shao et al. 2024, arXiv:2411.00850", Gwq()),
        _recipe("layer-wise-lim", LAYER_WISE, Rank(metric="lim", **QUARTER), Gptq()),
        _recipe("layer-wise-zd", LAYER_WISE, Rank(metric="zd", **QUARTER), Gptq()),
        _recipe("cptquant-cmpq", CPTQUANT, Rank(metric="cmpq", **THIRDS), Gptq()),
        _recipe("cptquant-pmpq", CPTQUANT, Rank(metric="pmpq", **THIRDS), Gptq()),
        _recipe("cptquant-tdmpq", CPTQUANT, Rank(metric="tdmpq", **THIRDS), Gptq()),
        _recipe("spike-aware", "Maisonnave et al. 2025, arXiv:2504.21553", Spike(), Nearest(), Static(), scheme="w8a8"),
        _recipe("flexq", FLEXQ, Nearest(), scheme="w6a6ag128", targets=(_target("*.ffn_down", "w6a8ag128"),)),
        _recipe("flexq-opt", FLEXQ, Nearest(), scheme="w6a6ag128", targets=(_target("*.attn_[qkv]", "w6a8ag128"),)),
        _recipe("flexq-measured", f"{FLEXQ}: its rule found anew", ActivationRule(), Nearest(), scheme="w6a6ag128"),
        _recipe("ohq", "Huang et al. 2023, arXiv:2309.01945", Synthetic(), Allocate(), Nearest()),
        _recipe("smoothquant-gptq", "SmoothQuant's scaling with GPTQ's rounding", Smooth(), Gptq()),
        _recipe("awq", "Lin et al. 2023, arXiv:2306.00978", AwqScale(), Clip(), scheme="w4a16g128"),
        _recipe("aweq", "Li et al. 2023, arXiv:2311.01305", Equalize(), Nearest(), BiasCorrection(), scheme="w8a8"),
        _recipe("fptq", "Li et al. 2023, arXiv:2308.15987", LogarithmicSmooth(), StaticWithinRange(), Nearest()),
        _recipe("aqas", "Lee et al. 2023, arXiv:2311.05161", AqasScale(), DintGptq()),
        _recipe("dgq", "Zhang et al. 2023, arXiv:2310.04836", PercentileSmooth(), TwoLevel()),
        _recipe(
            "qoq",
            "Lin et al. 2024 (QServe), arXiv:2405.04532: without its reordering of channels",
            SmoothAttention(),
            Rotate(heads=False),
            Smooth(alpha=0.05, joints="inner"),
            TwoLevelGptq(),
            KV4,
        ),
    )
}


def find(name: str) -> Recipe:
    """A recipe of ours or of a YAML file; raises RecipeError with the nearest names, or what is wrong in the file."""
    if name in RECIPES:
        return RECIPES[name]
    if name.endswith((".yaml", ".yml")):
        return Recipe.from_yaml(_text(Path(name)), name)
    raise RecipeError(f"no recipe {name!r}; nearest: {nearest(name, RECIPES)}; a file of your own ends in .yaml")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise RecipeError(f"{path}: expected a recipe file: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path}: expected a recipe file in UTF-8: {error}") from error
