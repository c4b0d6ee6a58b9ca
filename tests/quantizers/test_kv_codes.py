"""Claims about the codes of keys and values."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from quantizers.kv_codes import Codes, Fit, ends_of, from_codes, levels_of, parts_of, range_scale, round_rows, to_codes

GRIDS = st.sampled_from(["asymmetric", "symmetric", "power"])
FITTED = Fit(codebook=torch.tensor([-0.9, -0.2, 0.3, 1.0]).half())


def rows(size: int, seed: int, positions: int = 5) -> torch.Tensor:
    """[2 heads, positions, size] of numbers of unlike magnitudes, one row of them zeros."""
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(2, positions, size, generator=random) * torch.randn(2, 1, size, generator=random).exp()
    x[1, 1] = 0
    return x


@st.composite
def token_codes(draw: st.DrawFn) -> Codes:
    bits, grid = draw(st.integers(2, 8)), draw(GRIDS)
    return Codes(bits=bits, grid=grid, group=draw(st.sampled_from([0, 8, 16])), outliers=draw(st.integers(0, 3)))


@given(token_codes(), st.sampled_from([8, 10, 64]), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_a_number_is_off_by_half_a_step_of_its_group(codes: Codes, size: int, seed: int) -> None:
    """And by what rounding scale and offset to fp16 costs; a power of two may clip by another half step."""
    x = rows(size, seed)
    y = round_rows(x, codes, Fit())
    for part, bits in parts_of(codes, size):
        spread = (x[..., part].amax(-1) - x[..., part].amin(-1)).maximum(2 * x[..., part].abs().amax(-1))
        steps = 2 ** (bits - 1) - 1 if codes.grid != "asymmetric" else 2**bits - 1
        bound = spread / steps * (1 if codes.grid == "power" else 0.5) + spread * 2**-9 + 1e-6
        assert ((y - x)[..., part].abs() <= bound[..., None]).all()


@given(token_codes(), st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_rows_do_not_depend_on_their_neighbours(codes: Codes, seed: int) -> None:
    x = rows(10, seed)
    assert torch.equal(round_rows(x, codes, Fit())[:, 2:3], round_rows(x[:, 2:3], codes, Fit()))


@given(st.integers(0, 99))
def test_outliers_are_what_fp16_makes_of_them(seed: int) -> None:
    x = rows(16, seed)
    y = round_rows(x, Codes(bits=2, outliers=2), Fit())
    largest = x.abs().topk(2).indices
    assert torch.equal(y.gather(-1, largest), x.gather(-1, largest).half().float())


def test_a_channel_that_leaves_its_range_farthest_is_the_outlier() -> None:
    codes = Codes(bits=2, axis="channel", outliers=1)
    fit = Fit(scales=torch.full((1, 8), 1.0).half(), offsets=torch.zeros(1, 8).half())
    x = torch.tensor([0.0, 1, 2, 3, 3.5, -2.25, 1, 2])[None, None]
    assert round_rows(x, codes, fit).tolist() == [[[0, 1, 2, 3, 3, -2.25, 1, 2]]]


def test_equal_numbers_are_outliers_in_the_order_of_channels() -> None:
    x = torch.tensor([1.0, -1, 1, 0.6, 0, 0, 0, 0])[None, None]
    assert round_rows(x, Codes(bits=1, outliers=2), Fit())[0, 0].tolist() == [1, -1, 1, 1, 0, 0, 0, 0]


def test_a_codebook_gives_its_levels_over_the_range_of_the_row() -> None:
    x = torch.tensor([-4.0, -1, 1.5, 4])[None, None]
    y = round_rows(x, Codes(bits=2, grid="codebook"), FITTED)
    assert torch.equal(y[0, 0], 4 * FITTED.codebook.float())  # type: ignore[union-attr]


def test_an_order_moves_channels_into_blocks_and_back() -> None:
    """Large channels of a head together: the small ones keep their precision, and all their places."""
    x = torch.tensor([100.0, 1, 100, 1] * 4)[None, None] * torch.linspace(0.5, 1, 16)
    codes = Codes(bits=4, grid="power", group=8, ordered=True)
    order = Fit(order=torch.tensor([[0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15]]))
    plain, sorted_ = ((round_rows(x, codes, fit) - x)[..., 1::2].abs().max() for fit in (Fit(), order))
    assert sorted_ < plain / 4


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("grid", ["asymmetric", "symmetric"])
def test_levels_fit_into_their_bits_and_come_back(grid: str, bits: int) -> None:
    codes = Codes(bits=bits, grid=grid)  # type: ignore[arg-type]
    levels = levels_of(codes, Fit(), bits)
    assert len(levels) <= 2**bits
    assert (levels[0], levels[-1]) == ends_of(codes, bits)
    scale, offset = torch.tensor(0.25).half(), torch.tensor(-3.0).half()
    every = torch.arange(len(levels))
    assert torch.equal(to_codes(from_codes(every, scale, offset, levels), scale, offset, levels), every)


def test_a_power_of_two_is_the_step_of_a_mantissa_with_the_exponent_of_the_largest() -> None:
    codes = Codes(bits=4, grid="power")
    scale, offset = range_scale(torch.tensor([-5.0, 0.0]), torch.tensor([7.9, 0.0]), codes, 4)
    assert scale.tolist() == [1.0, 0.0]
    assert offset.tolist() == [0.0, 0.0]


def test_row_bytes_count_scales_outliers_and_planes() -> None:
    assert Codes(bits=4).row_bytes(64) == 32 + 4
    assert Codes(bits=4, grid="symmetric", group=32).row_bytes(64) == 32 + 2 * 2
    assert Codes(bits=4, grid="power", group=32).row_bytes(64) == 32 + 2
    assert Codes(bits=3, axis="channel", grid="codebook", outliers=1).row_bytes(64) == 24 + 4
    assert Codes(bits=1, axis="channel", wide=0.5).row_bytes(64) == 12
    assert Codes(bits=3).row_bytes(10) == 2 * 3 + 4


@pytest.mark.parametrize(
    "wrong",
    [
        {"axis": "channel", "group": 8}, {"axis": "channel", "grid": "power"}, {"grid": "codebook", "bits": 5},
        {"grid": "codebook", "wide": 0.5}, {"bits": 8, "wide": 0.5}, {"bits": 1, "grid": "power"}, {"group": 12},
        {"wide": 0.5, "outliers": 1}, {"bits": 0}, {"bits": 9},
    ],
    ids=str,
)  # fmt: skip
def test_codes_that_contradict_themselves_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Codes(**wrong)  # type: ignore[arg-type]
