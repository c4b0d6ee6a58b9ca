"""Claims about observing."""

import torch

from quantizers.blocks import observe
from quantizers.models import LoadedModel, blocks, linears


def test_blocks_run_one_after_another_are_the_model(loaded: LoadedModel, tokens: torch.Tensor) -> None:
    state = observe.entry(loaded.model, tokens)
    for block in blocks(loaded.model):
        state = observe.run(block, state)
    hidden = torch.cat([one.hidden for one in state])
    assert torch.allclose(loaded.model.lm_head(loaded.model.model.norm(hidden)), loaded.model(tokens).logits, atol=1e-5)


def test_no_chunk_exceeds_the_bound_and_none_is_lost() -> None:
    tokens = torch.arange(70).view(7, 10)
    parts = list(observe.chunks(tokens, 25))
    assert [len(part) for part in parts] == [2, 2, 2, 1]
    assert torch.equal(torch.cat(parts), tokens)
    assert len(list(observe.chunks(tokens, 5))) == 7, "a window longer than the bound still passes"


def test_statistics_are_those_of_all_inputs(loaded: LoadedModel, tokens: torch.Tensor) -> None:
    name = "model.layers.0.mlp.down_proj"
    watched = {name: linears(loaded.model)[name]}
    block, seen = blocks(loaded.model)[0], []
    state = observe.entry(loaded.model, tokens)
    with observe.hooked(watched, lambda _name, x: seen.append(x)):
        observe.run(block, state)
    x = torch.cat(seen)
    assert x.shape == (tokens.numel(), 164)
    found = observe.seen(watched, block, state, moments=True)[name]
    assert torch.equal(found.absmax, x.abs().amax(0))
    moments = found.moments
    assert torch.allclose(moments, (x.T.double() @ x.double()) / len(x), rtol=1e-4, atol=1e-6)
    outputs = torch.cat(observe.outputs(watched, block, state)[name]).flatten(0, 1)
    assert torch.allclose(outputs, watched[name](x), atol=1e-6)


def test_no_hook_stays(loaded: LoadedModel, tokens: torch.Tensor) -> None:
    observe.outputs(linears(loaded.model), blocks(loaded.model)[0], observe.entry(loaded.model, tokens))
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in loaded.model.modules())
