"""Our GPTQ beside llm-compressor's, on the same weights and the same second moments. Not collected by pytest.

python -m venv reference && reference/bin/pip install llmcompressor
PYTHONPATH=. reference/bin/python tests/quantizers/reference_gptq.py

For every linear of the shipped model: the error of its output on the calibration text, tr(dW H dW^T), ours over theirs.
`same scales`: both passes round with our scales of the unmodified weight, so that nothing but the pass differs.
`as each does it`: our scales, taken when a group is reached, and theirs from the range of the unmodified weight
(symmetric min-max). Damping is 0.01 for both. The last table is in quantizers/README.md.
"""

import importlib.metadata
import platform
from collections.abc import Iterator

import torch
from compressed_tensors.quantization import QuantizationArgs
from compressed_tensors.quantization.utils import calculate_qparams
from llmcompressor.modifiers.gptq.gptq_quantize import quantize_weight
from torch import Tensor

from quantizers.blocks import observe
from quantizers.blocks.round import Gptq
from quantizers.blocks.sweep import Symmetric, inverse_factor, sweep
from quantizers.calibrate import default_text, tokens_of, windows
from quantizers.models import DEFAULT_MODEL, blocks, load
from quantizers.primitives import dequantize, group_scales, grouped
from quantizers.scheme import Scheme

DAMP = 0.01


def layers() -> Iterator[tuple[Tensor, Tensor]]:
    """Weight [N, K] and moments [K, K] of every linear of the shipped model; 16 windows of 128 tokens."""
    loaded = load(DEFAULT_MODEL)
    state = observe.entry(loaded.model, windows(tokens_of(loaded, default_text("calibration")), window=128, count=16))
    for block in blocks(loaded.model):
        own = {name: layer for name, layer in block.named_modules() if isinstance(layer, torch.nn.Linear)}
        for name, seen in observe.seen(own, block, state, moments=True).items():
            assert seen.moments is not None
            yield own[name].weight.float(), seen.moments
        state = observe.run(block, state)


def theirs(weight: Tensor, moments: Tensor, scheme: Scheme, scales: Tensor | None, act_order: bool) -> Tensor:
    """What llm-compressor's GPTQ makes of a weight [N, K]; without scales it takes its own."""
    order = "weight" if act_order else None
    form = {"strategy": "group", "group_size": scheme.group} if scheme.group else {"strategy": "channel"}
    given = QuantizationArgs(num_bits=scheme.weight_bits, symmetric=True, actorder=order, **form)
    if scales is None:
        parts = grouped(weight, scheme).nan_to_num(0.0)
        scales, _ = calculate_qparams(parts.amin(2), parts.amax(2), given)
    zeros = torch.zeros_like(scales[None], dtype=torch.int8)
    stored, _, _ = quantize_weight(
        weight[None].clone(), moments[None].clone(), scales[None].float(), zeros, None, given
    )
    return stored[0]


def with_our_scales(weight: Tensor, moments: Tensor, scheme: Scheme, act_order: bool) -> Tensor:
    """Our pass with the scales of the unmodified weight."""
    order = moments.diagonal().argsort(descending=True, stable=True) if act_order else torch.arange(weight.shape[1])
    grid = Symmetric(weight, scheme, order)
    return dequantize(grid.quantized(sweep(weight[:, order], inverse_factor(moments[order][:, order], DAMP), grid)[0]))


def error(weight: Tensor, stored: Tensor, moments: Tensor) -> float:
    off = (stored - weight).double()
    return float((off @ moments.double() * off).sum())


def ratios(scheme: Scheme, act_order: bool) -> tuple[Tensor, Tensor]:
    """Our error over theirs by layer: with the same scales, and as each does it."""
    same, own = [], []
    for weight, moments in layers():
        scales = group_scales(weight, scheme)
        ours = error(weight, with_our_scales(weight, moments, scheme, act_order), moments)
        same.append(ours / error(weight, theirs(weight, moments, scheme, scales, act_order), moments))
        ours = error(weight, dequantize(Gptq(act_order=act_order).round(weight, scheme, moments)), moments)
        own.append(ours / error(weight, theirs(weight, moments, scheme, None, act_order), moments))
    return torch.tensor(same), torch.tensor(own)


def main() -> None:
    torch.set_num_threads(1)
    print(
        f"llm-compressor {importlib.metadata.version('llmcompressor')}, torch {torch.__version__}, {platform.machine()}"
    )
    print(
        "| scheme | columns in order of | same scales: mean (least .. most) | as each does it: mean (least .. most) |"
    )
    print("|---|---|---|---|")
    cases = [(word, act_order) for word in ("w4a16g128", "w3a16g128", "w3a16g32") for act_order in (False, True)]
    for word, act_order in [*cases, ("w4a16", False)]:
        same, own = ratios(Scheme.parse(word), act_order)
        cells = [f"{x.mean():.4f} ({x.min():.4f} .. {x.max():.4f})" for x in (same, own)]
        print(f"| {word} | {'input size' if act_order else 'the weight'} | {cells[0]} | {cells[1]} |", flush=True)


if __name__ == "__main__":
    main()
