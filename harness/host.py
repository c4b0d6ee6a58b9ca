"""Host: what this machine makes for the devices: token files, references, sensitivities, model files.

Everything is cached by content under $BENCH_HOME (or ~/.cache/bench): by the model, the recipe, the text and the
sources of the quantizers, so a change to any of them makes it anew.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from functools import cache as memoized
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.artifact import Artifact, artifact_of
from harness.build import bench_home
from harness.errors import UsageError
from harness.job import canonical_json
from harness.progress import Advance
from harness.suite import Suite
from harness.words import nearest
from quantizers.atomic import atomic
from quantizers.plan import Plan
from quantizers.scheme import Scheme

if TYPE_CHECKING:
    from torch import Tensor

    from quantizers.models import LoadedModel
    from quantizers.quantized_model import QuantizedModel
    from quantizers.recipes import Recipe

CACHE_VERSION = 1
SHIPPED = "default"
MAX_REFERENCE_BYTES = 256 << 20
"""Full-precision log-probabilities take 4 bytes a token and vocabulary entry: a large vocabulary gets fewer windows."""


@dataclass(frozen=True)
class Text:
    """What the devices score: tokens, and the full-precision log-probabilities to compare with."""

    tokens: Artifact
    reference: Artifact
    windows: int


@dataclass(frozen=True)
class SensitivityRow:
    """KL (nats per token) and output error when one layer alone has a scheme."""

    layer: str
    scheme: str
    kl: float
    mse: float


class Host:
    """One model and one recipe of a suite. Loading checks the model: raises ModelError before anything is deployed.

    streams: the weights stay on disk, and the model can only be `streamed`.
    """

    def __init__(self, suite: Suite, home: Path | None = None, streams: bool = False) -> None:
        from quantizers import models, recipes

        self.suite = suite
        self.recipe: Recipe = recipes.find(suite.recipes[0])
        name = suite.models[0]
        load = models.open_unloaded if streams else models.load
        self.loaded: LoadedModel = load(models.DEFAULT_MODEL if name == SHIPPED else name)
        self._home = home or bench_home()

    @property
    def sha256(self) -> str:
        return self.loaded.sha256

    @cached_property
    def shapes(self) -> dict[str, tuple[int, int]]:
        """Layer name -> (N, K), in the order of computation."""
        from quantizers.models import linears

        return {name: (layer.out_features, layer.in_features) for name, layer in linears(self.loaded.model).items()}

    @cached_property
    def window(self) -> int:
        """The window of the suite, or the context of a model that has less."""
        return min(self.suite.window, self.loaded.sizes.context)

    def text(self) -> Text:
        """The scored text and its reference."""
        from quantizers.evaluate import logprob_rows
        from quantizers.export import write_reference, write_tokens

        vocabulary = self.loaded.sizes.vocabulary
        most = max(1, MAX_REFERENCE_BYTES // (4 * vocabulary * (self.window - 1)))
        tokens = self._windows("heldout", self.suite.text, min(self.suite.windows, most)).flatten()
        folder = self._folder("texts", self.sha256, self.window, _digest(tokens))
        if not (folder / "tokens").exists():
            write_tokens(folder / "tokens", tokens, vocabulary)
        if not (folder / "reference").exists():
            write_reference(folder / "reference", logprob_rows(self.loaded, tokens, self.window), self.window)
        files = artifact_of("tokens", folder / "tokens"), artifact_of("reference", folder / "reference")
        return Text(*files, windows=len(tokens) // self.window)

    def sensitivity(self, advance: Advance) -> list[SensitivityRow]:
        """Every layer under every candidate scheme, on calibration text that the recipe does not look at.

        By the metric that the recipe names, or else by the KL of what it makes.
        """
        from quantizers.sensitivity import measure, scored

        calibration, tokens = self._calibration
        digests = _digest(calibration), _digest(tokens)
        folder = self._folder("sensitivity", *self._made_from, self.suite.candidates, *digests)
        path = folder / "sensitivity.json"
        if not path.exists():
            schemes = [Scheme.parse(word) for word in self.suite.candidates]
            if self.recipe.metric is None:
                rows = measure(self.loaded, tokens, schemes, advance, recipe=self.recipe, calibration=calibration)
            else:
                rows = scored(self.loaded, self.recipe.metric, schemes, self.recipe, calibration, advance)
            found = [SensitivityRow(row.layer, str(row.scheme), row.kl, row.mse) for row in rows]
            with atomic(path) as temporary:
                temporary.write_text(json.dumps([asdict(row) for row in found]), encoding="utf-8")
        return [SensitivityRow(**row) for row in json.loads(path.read_text(encoding="utf-8"))]

    def model(self, plan: Plan, advance: Advance) -> Artifact:
        """The model file of a plan, quantized with the recipe; every layer has the plan's scheme, whatever its targets.

        `made_from` has the stored bits per weight of its linears: codes, scales, outliers.
        """
        from quantizers.bits import stored_by_layer, total
        from quantizers.export import write_gguf

        calibration, _ = self._calibration
        folder = self._folder("models", *self._made_from, plan.to_json(), _digest(calibration))
        if not (folder / "model.gguf").exists():
            layers = {name: plan.scheme_of(name) for name in self.shapes} | dict(plan.layers)
            quantized = self.quantized(Plan(plan.default, layers), advance)
            bits = total(stored_by_layer(quantized).values()).per_weight
            with atomic(folder / "bits.json") as temporary:
                temporary.write_text(json.dumps(bits), encoding="utf-8")
            write_gguf(quantized, folder / "model.gguf")
        bits = json.loads((folder / "bits.json").read_text(encoding="utf-8"))
        made_from = {"recipe": self.recipe.name, "plan": json.loads(plan.to_json()), "bits_per_weight": bits}
        return artifact_of("model", folder / "model.gguf", made_from)

    def quantized(self, plan: Plan, advance: Advance) -> "QuantizedModel":
        """The model of a plan in memory; layers that it does not name follow the recipe's targets."""
        from quantizers.quantized_model import quantize

        return quantize(self.loaded, self.recipe, plan, self._needed, advance)

    def streamed(self, plan: Plan, folder: Path, advance: Advance) -> "QuantizedModel":
        """The same with one transformer block in memory; what is finished lies in the folder."""
        from quantizers.stream import stream

        return stream(self.loaded, self.recipe, plan, self._needed, folder, advance)

    @property
    def _needed(self) -> "Tensor | None":
        return self._calibration[0] if "calibration" in self.recipe.needs else None

    def uniform(self, scheme: str) -> Plan:
        return Plan(Scheme.parse(scheme))

    def linears_bytes(self, scheme: str) -> int:
        """Stored bytes of all linears under one scheme: what a decoded token reads."""
        parsed = Scheme.parse(scheme)
        return round(sum(parsed.bits_per_weight(k) * n * k / 8 for n, k in self.shapes.values()))

    @property
    def _made_from(self) -> tuple[str, str]:
        return self.sha256, self.recipe.to_yaml()

    def check_suite(self) -> None:
        """Raises UsageError for what a run cannot ask of this model."""
        suite, context = self.suite, self.loaded.sizes.context
        if suite.prefill + suite.decode > context:
            raise UsageError(
                f"prefill {suite.prefill} and decode {suite.decode} need more than the {context} positions of "
                f"{self.loaded.name}; ask for fewer"
            )
        kinds = {name.rpartition(".")[2] for name in self.shapes}
        for pattern in (*suite.allow, *suite.deny):
            if not any(fnmatchcase(name, pattern) for name in self.shapes):
                raise UsageError(f"{pattern!r} matches no layer of {self.loaded.name}{nearest(pattern, self.shapes)}")
        for kind in chain.from_iterable(suite.tied):
            if kind not in kinds:
                raise UsageError(f"tied: no linear {kind!r} in {self.loaded.name}{nearest(kind, kinds)}")

    @cached_property
    def _calibration(self) -> tuple["Tensor", "Tensor"]:
        """Windows that recipes look at, and others between them on which sensitivity is measured.

        On the windows that GPTQ has seen, the KL of one layer is a third lower than on others. Only a text of a single
        window serves for both.
        """
        import torch

        wanted = self.suite.calibration_windows + self.suite.sensitivity_windows
        both = self._windows("calibration", None, wanted)
        if len(both) == 1:
            return both, both
        # A short text is shared in the proportion that was asked for.
        count = min(max(1, len(both) * self.suite.sensitivity_windows // wanted), len(both) - 1)
        unseen = torch.zeros(len(both), dtype=torch.bool)
        unseen[((torch.arange(count) + 0.5) * len(both) / count).long()] = True
        return both[~unseen], both[unseen]

    def _windows(self, use: str, text: Path | None, count: int) -> "Tensor":
        """[B, window] of a text, fewer than `count` when it is short."""
        from quantizers.calibrate import default_text, tokens_of, windows

        tokens = tokens_of(self.loaded, text or default_text(use))
        return windows(tokens, self.window, max(1, min(count, len(tokens) // self.window)))

    def _folder(self, kind: str, *made_from: Any) -> Path:
        return cache_folder(self._home, kind, *made_from)


def cache_folder(home: Path, kind: str, *made_from: Any) -> Path:
    """Where files lie that the quantizers make from the same: plain JSON data. It is there."""
    content = canonical_json([CACHE_VERSION, quantizer_sources(), kind, *made_from])
    folder = home / kind / hashlib.sha256(content.encode()).hexdigest()[:32]
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@memoized
def quantizer_sources() -> str:
    """One hash over the Python sources of the quantizers."""
    import quantizers

    root = Path(quantizers.__file__).parent
    paths: Sequence[Path] = sorted(path for path in root.rglob("*.py") if path.parent.name != "default_model")
    return hashlib.sha256(b"\0".join(path.read_bytes() for path in paths)).hexdigest()


def _digest(tokens: "Tensor") -> str:
    return hashlib.sha256(tokens.numpy().tobytes()).hexdigest()
