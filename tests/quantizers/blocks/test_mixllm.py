"""Claims about output features with more bits."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from quantizers.blocks.mixllm import MixLlm, top_rows
from quantizers.linear import QuantizedLinear, weight_of
from quantizers.models import LoadedModel, linears
from quantizers.plan import Plan
from quantizers.quantized_model import quantize
from quantizers.recipes import RECIPES, Recipe
from quantizers.scheme import Scheme
from tests.quantizers.blocks.test_round import problem

SHAPES = st.lists(st.tuples(st.integers(1, 60), st.integers(1, 90)), min_size=1, max_size=6)


@given(shapes=SHAPES, share=st.floats(0, 1), seed=st.integers(0, 99))
def test_salient_rows_hold_at_most_their_share_and_nearly_all_of_it(
    shapes: list[tuple[int, int]], share: float, seed: int
) -> None:
    random = torch.Generator().manual_seed(seed)
    salience = {str(i): torch.rand(n, generator=random) for i, (n, _) in enumerate(shapes)}
    columns = {str(i): k for i, (_, k) in enumerate(shapes)}
    rows = top_rows(salience, columns, share)
    taken = sum(len(found) * columns[name] for name, found in rows.items())
    total = sum(n * k for n, k in shapes)
    assert share * total - 8 * max(columns.values()) <= taken <= share * total + 1e-6
    for name, found in rows.items():
        assert len(found) % 8 == 0 or len(found) == len(salience[name])
        rest = [i for i in range(len(salience[name])) if i not in found.tolist()]
        assert not len(found) or not rest or salience[name][found].min() >= salience[name][rest].max()


def test_every_row_is_rounded_as_gptq_would_by_itself(loaded: LoadedModel, tokens: torch.Tensor) -> None:
    """What is stored in pieces comes back in the order of the model, near its weight, salient rows nearest."""
    recipe = Recipe(name="rows", source="a test", blocks=(MixLlm(share=0.3),))
    quantized = quantize(loaded, recipe, Plan(Scheme.parse("w3a8ag32")), tokens)
    mixed = 0
    for name, layer in linears(loaded.model).items():
        stored = quantized.tensors[name]
        if not isinstance(stored, QuantizedLinear):
            assert (weight_of(stored) - layer.weight).norm() < 0.5 * layer.weight.norm()
            continue
        mixed += 1
        assert stored.rows is not None
        assert [str(piece.scheme) for piece in stored.pieces] == ["w8a8ag32", "w3a8ag32"]  # type: ignore[union-attr]
        error = (weight_of(stored) - layer.weight).square().mean(1) / layer.weight.square().mean(1)
        salient = stored.rows[: len(stored.pieces[0].codes)]  # type: ignore[union-attr]
        rest = stored.rows[len(salient) :]
        assert error[salient].max() < error[rest].min()
    assert mixed > 3


@pytest.mark.parametrize(("share", "word"), [(0.0, "w3a8g32"), (1.0, "w8a8g32")])
def test_when_all_rows_have_one_width_it_is_gptq(
    loaded: LoadedModel, tokens: torch.Tensor, share: float, word: str
) -> None:
    recipe = Recipe(name="rows", source="a test", blocks=(MixLlm(share=share),))
    mixed = quantize(loaded, recipe, Plan(Scheme.parse("w3a8g32")), tokens)
    gptq = quantize(loaded, RECIPES["gptq"], Plan(Scheme.parse(word)), tokens)
    for name in linears(loaded.model):
        assert torch.equal(weight_of(mixed.tensors[name]), weight_of(gptq.tensors[name]))


def test_bits_go_to_rows_that_matter() -> None:
    """A layer of which eight rows are ten times as large: at equal bits its error is far below that of other rows."""
    weight, inputs = problem(3)
    weight[4:12] *= 10
    moments = inputs.T @ inputs / len(inputs)
    gptq, scheme, more = MixLlm(), Scheme.parse("w3a8"), Scheme.parse("w8a8")

    def error(rows: list[int]) -> float:
        rest = [row for row in range(len(weight)) if row not in rows]
        total = 0.0
        for part, word in ((rows, more), (rest, scheme)):
            from quantizers.blocks.round import Gptq

            change = weight_of(Gptq(damp=gptq.damp).round(weight[part], word, moments)) - weight[part]
            total += float((change @ inputs.T).square().sum())
        return total

    salience = {"one": weight.square().sum(1)}
    (chosen,) = top_rows(salience, {"one": weight.shape[1]}, 1 / 3).values()
    assert sorted(chosen.tolist()) == list(range(4, 12))
    assert error(chosen.tolist()) < 0.2 * error(list(range(12, 20)))
