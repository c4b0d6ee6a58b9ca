"""Claims about sensitivity."""

import copy

import pytest
import torch

from quantizers import primitives
from quantizers.blocks import observe
from quantizers.errors import QuantizerError
from quantizers.models import LoadedModel, linears
from quantizers.plan import Plan
from quantizers.quantized_model import quantize
from quantizers.recipes import RECIPES
from quantizers.scheme import FP16, Scheme
from quantizers.sensitivity import Sensitivity, measure, noise_floor, tied_groups
from quantizers.simulate import SimulatedLinear

SCHEMES = [Scheme.parse(word) for word in ("w2a8", "w4a8g32", "w8a8")]


@pytest.fixture(scope="module")
def table(loaded: LoadedModel, tokens: torch.Tensor) -> dict[tuple[str, Scheme], Sensitivity]:
    return {(one.layer, one.scheme): one for one in measure(loaded, tokens, SCHEMES)}


def test_every_linear_is_measured_under_every_scheme(
    loaded: LoadedModel, table: dict[tuple[str, Scheme], Sensitivity]
) -> None:
    assert list(table) == [(name, scheme) for name in linears(loaded.model) for scheme in SCHEMES]


def test_fewer_bits_hurt_more_in_every_layer(loaded: LoadedModel, table: dict[tuple[str, Scheme], Sensitivity]) -> None:
    for name in linears(loaded.model):
        two, four, eight = (table[name, scheme] for scheme in SCHEMES)
        assert two.kl > four.kl > eight.kl > 0
        assert two.mse > four.mse > eight.mse > 0


def test_kl_is_that_of_a_model_with_one_layer_quantized(
    loaded: LoadedModel, tokens: torch.Tensor, table: dict[tuple[str, Scheme], Sensitivity]
) -> None:
    """Against a whole model computed the long way, for a layer of each stage of a block."""
    full = loaded.model(tokens).logits.log_softmax(-1)
    for name, layer in linears(loaded.model).items():
        model = copy.deepcopy(loaded.model)
        model.set_submodule(name, SimulatedLinear(primitives.quantize(layer.weight, SCHEMES[1])))
        logprobs = model(tokens).logits.log_softmax(-1)
        windows = (full.exp() * (full - logprobs)).sum(-1).mean(1)
        assert table[name, SCHEMES[1]].kl == pytest.approx(float(windows.mean()), rel=1e-3)
        assert table[name, SCHEMES[1]].kl_error == pytest.approx(float(windows.std() / 8**0.5), rel=1e-2)


def test_mse_is_the_mean_squared_change_of_the_output(
    loaded: LoadedModel, tokens: torch.Tensor, table: dict[tuple[str, Scheme], Sensitivity]
) -> None:
    name = "model.layers.0.mlp.down_proj"
    layer, seen = linears(loaded.model)[name], []
    with observe.hooked({name: layer}, lambda _name, x: seen.append(x)):
        loaded.model(tokens)
    weight = primitives.quantize(layer.weight, SCHEMES[0])
    change = SimulatedLinear(weight)(seen[0]) - layer(seen[0])
    assert table[name, SCHEMES[0]].mse == pytest.approx(float(change.square().mean()), rel=1e-4)


def test_tied_groups_gather_what_reads_the_same_input(loaded: LoadedModel) -> None:
    names = list(linears(loaded.model))
    groups = tied_groups(loaded.model)
    assert [len(group) for group in groups] == [3, 1, 2, 1] * 2
    assert [name for group in groups for name in group] == names


def test_a_group_hurts_more_than_each_of_its_members(
    loaded: LoadedModel, tokens: torch.Tensor, table: dict[tuple[str, Scheme], Sensitivity]
) -> None:
    groups = tied_groups(loaded.model)
    joint = measure(loaded, tokens, SCHEMES[:1], groups=groups)
    assert [one.layer for one in joint] == ["+".join(group) for group in groups]
    for one, group in zip(joint, groups, strict=True):
        if len(group) == 1:
            assert one.kl == pytest.approx(table[group[0], SCHEMES[0]].kl, rel=1e-4)
        else:
            assert one.kl > max(table[name, SCHEMES[0]].kl for name in group)


def test_fp16_costs_less_than_any_code_and_the_floor_is_that_of_all_layers(
    loaded: LoadedModel, tokens: torch.Tensor, table: dict[tuple[str, Scheme], Sensitivity]
) -> None:
    floor = noise_floor(loaded, tokens)
    assert 0 < floor < min(one.kl for one in table.values())
    assert all(abs(one.kl) <= floor for one in measure(loaded, tokens, [FP16]))


def test_the_recipe_that_will_be_used_is_the_one_measured(
    loaded: LoadedModel, tokens: torch.Tensor, table: dict[tuple[str, Scheme], Sensitivity]
) -> None:
    """GPTQ lowers the output error of every layer; on the whole also the divergence."""
    compensated = measure(loaded, tokens, SCHEMES[1:2], recipe=RECIPES["gptq"])
    assert all(one.mse < table[one.layer, one.scheme].mse for one in compensated)
    assert sum(one.kl for one in compensated) < sum(table[one.layer, one.scheme].kl for one in compensated)


def test_recipes_may_look_at_other_text_than_the_one_measured_on(loaded: LoadedModel, tokens: torch.Tensor) -> None:
    """Half of the windows calibrate, half measure: moments come from the former, as the rounded weights show."""
    measured, calibration = tokens[:4], tokens[4:]
    own, apart, same = (
        measure(loaded, measured, SCHEMES[1:2], recipe=RECIPES["gptq"], calibration=text)
        for text in (None, calibration, measured)
    )
    assert own == same
    assert sum(one.mse for one in own) < sum(one.mse for one in apart)


def test_the_model_is_left_as_it_was(loaded: LoadedModel, tokens: torch.Tensor) -> None:
    before, modules = copy.deepcopy(loaded.model.state_dict()), dict(linears(loaded.model))
    measure(loaded, tokens, SCHEMES[:1], recipe=RECIPES["smoothquant"])
    assert all(torch.equal(before[name], tensor) for name, tensor in loaded.model.state_dict().items())
    assert all(linears(loaded.model)[name] is module for name, module in modules.items())


def test_windows_that_do_not_fit_at_once_give_the_same_numbers(
    loaded: LoadedModel,
    tokens: torch.Tensor,
    table: dict[tuple[str, Scheme], Sensitivity],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(observe.chunks, "__defaults__", (64,))
    for one in measure(loaded, tokens, SCHEMES[:1]):
        assert one.kl == pytest.approx(table[one.layer, one.scheme].kl, rel=1e-4)
        assert one.mse == pytest.approx(table[one.layer, one.scheme].mse, rel=1e-4)


def test_progress_runs_to_the_end(loaded: LoadedModel, tokens: torch.Tensor) -> None:
    seen: list[tuple[int, int, str]] = []
    measure(loaded, tokens[:1], SCHEMES[:2], lambda *step: seen.append(step))
    assert [done for done, _, _ in seen] == list(range(29)) and {total for _, total, _ in seen} == {28}


@pytest.mark.parametrize(
    ("group", "complaint"),
    [
        (("model.layers.0.mlp.dwn_proj",), r"nearest: model\.layers\.0\.mlp\.down_proj"),
        (("model.layers.0.mlp.up_proj", "model.layers.1.mlp.up_proj"), "one block"),
    ],
)
def test_impossible_groups_are_refused(
    loaded: LoadedModel, tokens: torch.Tensor, group: tuple[str, ...], complaint: str
) -> None:
    with pytest.raises(QuantizerError, match=complaint):
        measure(loaded, tokens, SCHEMES[:1], groups=[group])


def test_single_sensitivities_predict_the_whole_model(loaded: LoadedModel, tokens: torch.Tensor) -> None:
    """Additivity, on which allocation rests: at 6 bits the sum over layers is within a factor of two of the whole."""
    scheme = Scheme.parse("w6a8")
    predicted = sum(one.kl for one in measure(loaded, tokens, [scheme]))
    whole = quantize(loaded, RECIPES["rtn"], Plan(scheme)).as_torch()
    full, logprobs = (model(tokens).logits.log_softmax(-1) for model in (loaded.model, whole))
    joint = float((full.exp() * (full - logprobs)).sum(-1).mean())
    assert joint / 2 < predicted < joint * 2
