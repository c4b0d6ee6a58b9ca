"""Claims about cascade token pruning in the torch model."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from quantizers.blocks.round import Nearest
from quantizers.blocks.tokens import Tokens
from quantizers.evaluate import score
from quantizers.models import LoadedModel
from quantizers.plan import Plan
from quantizers.pruning import dropped, survivors
from quantizers.quantized_model import QuantizedModel, quantize
from quantizers.recipes import Recipe
from quantizers.scheme import FP16


def pruned(loaded: LoadedModel, keep: float, **where: int) -> QuantizedModel:
    blocks = (Nearest(), Tokens(keep=keep, **where))
    return quantize(loaded, Recipe(name="tried", source="a test", blocks=blocks), Plan(FP16))


@given(st.integers(0, 10**6), st.floats(0, 0.9))
def test_the_least_important_go_and_the_first_of_equals_stay(seed: int, share: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    importance = torch.randint(0, 5, (2, 20), generator=generator).float()
    alive = torch.rand(2, 20, generator=generator).argsort(-1) < 12
    left = survivors(alive, importance, share)
    assert (left.sum(1) == 12 - dropped(share, 12)).all() and not (left & ~alive).any()
    for row in range(2):
        gone = alive[row] & ~left[row]
        for i in gone.nonzero().flatten().tolist():
            for j in left[row].nonzero().flatten().tolist():
                assert (importance[row, j], -j) > (importance[row, i], -i)


def test_nothing_dropped_is_the_model_itself(loaded: LoadedModel, tokens: Tensor) -> None:
    model = pruned(loaded, keep=1.0).as_torch()
    assert torch.allclose(model(tokens).logits, pruned(loaded, keep=0.999).as_torch()(tokens).logits, atol=1e-5)
    assert bool(model.pruning.alive.all())


def test_what_is_left_computes_as_if_the_dropped_had_never_been_there(loaded: LoadedModel, tokens: Tensor) -> None:
    """The last block runs over the shorter sequence, at positions 0, 1, ..; pruned is the first block of two."""
    model = pruned(loaded, keep=0.6, from_block=0, to_block=1).as_torch()
    inputs: list[Tensor] = []
    last = model.model.layers[1]
    last.register_forward_pre_hook(lambda _module, args: inputs.append(args[0]))
    logits = model(tokens).logits
    alive = model.pruning.alive
    assert alive.sum(1).tolist() == [32 - dropped(0.4, 32)] * 8 and bool(alive[:, 0].all())
    short = torch.stack([hidden[keep] for hidden, keep in zip(inputs[0], alive, strict=True)])
    plain = quantize(loaded, Recipe(name="plain", source="a test", blocks=(Nearest(),)), Plan(FP16)).as_torch()
    turned = plain.model.rotary_emb(short, torch.arange(short.shape[1])[None])
    expected = plain.lm_head(plain.model.norm(plain.model.layers[1](short, position_embeddings=turned)))
    found = torch.stack([each[keep] for each, keep in zip(logits, alive, strict=True)])
    assert torch.allclose(found, expected, atol=1e-4)


def test_a_dropped_token_keeps_its_hidden_state_and_has_logits(loaded: LoadedModel, tokens: Tensor) -> None:
    model = pruned(loaded, keep=0.6, from_block=0, to_block=1).as_torch()
    seen: list[Tensor] = []
    model.model.layers[0].post_attention_layernorm.register_forward_hook(lambda _m, args, _y: seen.append(args[0]))
    logits, gone = model(tokens).logits, ~model.pruning.alive
    assert torch.allclose(logits[gone], model.lm_head(model.model.norm(seen[0][gone])), atol=1e-5)


def test_a_score_has_both_perplexities(loaded: LoadedModel, tokens: Tensor) -> None:
    quantized = pruned(loaded, keep=0.6)
    found = score(quantized, tokens.flatten(), 32)
    assert found.kept is not None and found.kept_rate is not None
    assert found.kept_rate == float(found.kept.mean()) == (31 - dropped(0.4, 31)) / 31
    assert found.perplexity_kept != found.perplexity
    assert score(loaded, tokens.flatten(), 32).kept is None
