"""The codes of keys and values: the device's rows read back as the host's, bit for bit."""

import struct
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quantizers.blocks.kv_fit import fit
from quantizers.kv_codes import Codes, Fit, round_rows

GRIDS = ("fp16", "asymmetric", "symmetric", "power", "codebook")
"""In the order of KvGrid."""
HEADS, POSITIONS = 2, 9


@st.composite
def any_codes(draw: st.DrawFn) -> Codes:
    axis, grid = draw(st.sampled_from(["token", "channel"])), draw(st.sampled_from(GRIDS[1:]))
    bits = draw(st.integers(1, 8))
    if grid == "codebook":
        bits = min(bits, 4)
    if grid == "power":
        axis, bits = "token", max(bits, 2)
    wide = draw(st.sampled_from([0, 0.5, 1])) if grid != "codebook" and bits < 8 else 0
    group = draw(st.sampled_from([0, 8, 24])) if axis == "token" else 0
    outliers = 0 if wide else draw(st.integers(0, 9))
    ordered = draw(st.booleans())
    return Codes(axis=axis, grid=grid, bits=bits, wide=wide, group=group, outliers=outliers, ordered=ordered)


@st.composite
def any_rows(draw: st.DrawFn) -> torch.Tensor:
    """[heads, positions, D]: some channels large, some positions zero, some numbers equal."""
    size = draw(st.sampled_from([2, 8, 10, 64]))
    random = torch.Generator().manual_seed(draw(st.integers(0, 999)))
    x = torch.randn(HEADS, POSITIONS, size, generator=random) * torch.randn(HEADS, 1, size, generator=random).exp() ** 2
    x[0, draw(st.integers(0, POSITIONS - 1))] = 0
    x[1, 2] = x[1, 2].round()
    x[1, 3] *= 1e-7
    return x


def device_rows(command: list[str], x: torch.Tensor, codes: Codes | None, found: Fit) -> tuple[int, torch.Tensor]:
    """Bytes of a row, and what the rows are read back as."""
    size = x.shape[2]
    described = (
        [0] * 7
        if codes is None
        else [GRIDS.index(codes.grid), codes.axis == "channel", codes.bits, codes.group, codes.wide_channels(size),
              codes.outliers, codes.ordered]
    )  # fmt: skip
    order = None if found.order is None else found.order.int()
    parts = (found.scales, found.offsets, found.codebook, order)
    data = struct.pack("10i", *described, HEADS, POSITIONS, size)
    data += b"".join(part.numpy().tobytes() for part in parts if part is not None)
    run = subprocess.run(command, input=data + x.numpy().tobytes(), capture_output=True, check=True)
    return struct.unpack_from("i", run.stdout)[0], torch.from_numpy(
        np.frombuffer(run.stdout, np.float32, offset=4).copy()
    )


@pytest.fixture(scope="module", params=[None, "cortex-a72"], ids=["x86-64", "aarch64"])
def command(request: Any, build_preset: Any, qemu: Any) -> list[str]:
    preset, prefix = ("x86_64-linux", []) if request.param is None else ("aarch64-linux", qemu(request.param))
    return [*prefix, str(Path(build_preset(preset)) / "ops" / "kv_rows")]


@given(x=any_rows(), codes=any_codes())
@settings(max_examples=60, deadline=None)
def test_rows_come_back_as_on_the_host(command: list[str], x: torch.Tensor, codes: Codes) -> None:
    found = fit(x, codes)
    row_bytes, y = device_rows(command, x, codes, found)
    assert row_bytes == codes.row_bytes(x.shape[2])
    assert torch.equal(y, round_rows(x, codes, found).flatten())


@given(x=any_rows())
@settings(max_examples=5, deadline=None)
def test_rows_without_codes_are_fp16(command: list[str], x: torch.Tensor) -> None:
    row_bytes, y = device_rows(command, x, None, Fit())
    assert row_bytes == 2 * x.shape[2]
    assert torch.equal(y, x.half().float().flatten())
