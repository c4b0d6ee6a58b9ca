"""The families: kernels of published systems, chosen by name. mm_test tests their products, with all others."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

LINE = re.compile(r"MM_(?:FAMILY|TILE)\(isa, (\w+), mm_([#\w]+?)_\w+##(?:isa|name), \w+, ")
TILES = re.compile(r"^MM_TILES\((\w+), (\w+), (\d+)\)$", re.MULTILINE)
EXTRA = ["codebook", "twolevel", "trip", "rowsplit", "sidecar", "sparse"]

Build = Callable[[str], Path]
Pack = Callable[[str, int, np.ndarray], bytes]


@pytest.fixture(scope="module")
def pack(build_preset: Build) -> Pack:
    mm_test = build_preset("x86_64-linux") / "mm" / "mm_test"

    def run(family: str, bits: int, codes: np.ndarray) -> bytes:
        words = [mm_test, "--pack", *map(str, (bits, *codes.shape)), family]
        return subprocess.run(words, input=codes.tobytes(), capture_output=True, check=True).stdout

    return run


def padded(codes: np.ndarray, bits: int, block_rows: int) -> np.ndarray:
    """With the rows and columns of whole blocks; what is added means zero (of one bit nothing does: 0)."""
    rows, columns = -(-codes.shape[0] // block_rows) * block_rows, -(-codes.shape[1] // 32) * 32
    whole = np.full((rows, columns), 0 if bits == 1 else 2 ** (bits - 1), np.uint8)
    whole[: codes.shape[0], : codes.shape[1]] = codes
    return whole


def random_codes(bits: int, rows: int, columns: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 2**bits, (rows, columns), np.uint8)


sizes = {"rows": st.integers(1, 40), "columns": st.integers(1, 100), "seed": st.integers(0)}


@settings(max_examples=30, deadline=None)
@given(bits=st.integers(1, 8), **sizes)
def test_planes_are_words_of_one_bit_of_32_columns(pack: Pack, bits: int, rows: int, columns: int, seed: int) -> None:
    codes = random_codes(bits, rows, columns, seed)
    want = padded(codes, bits, 8)
    words = np.frombuffer(pack("planes", bits, codes), "<u4")
    words = words.reshape(want.shape[0] // 8, want.shape[1] // 32, bits, 8)
    column, plane = np.arange(32), np.arange(bits)
    fields = words[..., None] >> column & 1  # [row block][column block][plane][row][column]
    read = (fields << plane[:, None, None]).sum(axis=2)
    np.testing.assert_array_equal(read.transpose(0, 2, 1, 3).reshape(want.shape), want)


@settings(max_examples=30, deadline=None)
@given(bits=st.integers(1, 4), **sizes)
def test_a_table_index_is_four_columns_of_a_plane(pack: Pack, bits: int, rows: int, columns: int, seed: int) -> None:
    codes = random_codes(bits, rows, columns, seed)
    want = padded(codes, bits, 32)
    octets = np.frombuffer(pack("table", bits, codes), np.uint8)
    octets = octets.reshape(want.shape[0] // 32, want.shape[1] // 8, bits, 32)
    fields = octets[..., None] >> np.arange(8) & 1
    read = (fields << np.arange(bits)[:, None, None]).sum(axis=2)
    np.testing.assert_array_equal(read.transpose(0, 2, 1, 3).reshape(want.shape), want)


@settings(max_examples=30, deadline=None)
@given(**sizes)
def test_agile_keeps_two_rows_eight_bits_apart_and_sums(pack: Pack, rows: int, columns: int, seed: int) -> None:
    codes = random_codes(4, rows, columns, seed)
    want = padded(codes, 4, 16).reshape(-1, 16, -(-columns // 32), 32).transpose(0, 2, 1, 3)
    blocks = np.frombuffer(pack("agile", 4, codes), np.uint8).reshape(*want.shape[:2], 288)
    words = np.ascontiguousarray(blocks[..., :256]).view("<u4").reshape(*want.shape[:2], 8, 8)
    for column in range(32):
        pair = words[:, :, column // 4] >> (16 * (column % 4 // 2) + 4 * (column % 2))
        np.testing.assert_array_equal(pair & 15, want[:, :, :8, column])
        np.testing.assert_array_equal(pair >> 8 & 15, want[:, :, 8:, column])
    sums = np.ascontiguousarray(blocks[..., 256:]).view("<u2")
    np.testing.assert_array_equal(sums, want.sum(axis=3))


def families(kernels_dir: Path) -> set[tuple[str, str]]:
    """(family, what its name says between `mm_` and the instruction set)."""
    tables = [
        (kernels_dir / "mm" / "families" / name).read_text(encoding="utf-8") for name in ("families.inc", "tiles.inc")
    ]
    return {(family, name) for table in tables for family, name in LINE.findall(table)}


def test_a_tile_of_a_family_is_named_as_the_variant_whose_loops_it_shares(kernels_dir: Path) -> None:
    plain = (kernels_dir / "mm" / "variants.inc").read_text(encoding="utf-8")
    rows = TILES.findall((kernels_dir / "mm" / "families" / "tiles.inc").read_text(encoding="utf-8"))
    assert {isa for isa, *_ in rows} == {"scalar", "avx2", "avxvnni", "avx512vnni", "neon", "dotprod", "i8mm"}
    for isa, name, tokens in rows:
        tile = f"1x8x4_{name}" if tokens == "1" else name
        assert f"\nMM_VARIANT({isa}, mm_w4a8_{tile}, 4, 8, {tokens})\n" in plain


def test_every_family_is_in_the_readme_and_in_the_format(kernels_dir: Path) -> None:
    found = {family for family, _ in families(kernels_dir)}
    assert found >= {"planes", "table", "agile", "deep", *EXTRA}
    for family in found:
        assert f"| `{family}` |" in (kernels_dir / "README.md").read_text(encoding="utf-8")
        if family != "deep":  # the layout and the meaning of `packed`
            assert f"| `{family}` |" in (kernels_dir / "FORMAT.md").read_text(encoding="utf-8")


def test_the_agent_lists_every_family_for_each_instruction_set(agent: Any, kernels_dir: Path) -> None:
    (info,) = agent("info").results
    for family in {family for family, _ in families(kernels_dir)}:
        for isa in ("avx2", "scalar"):
            assert any(name.endswith(f"_{family}_{isa}") for name in info["variants"]), (family, isa)


@pytest.mark.parametrize("scheme", ["w3a5g64", "w2a2", "wta8g32", "w8a8ag128"])
def test_planes_are_timed_for_any_widths(agent: Any, scheme: str) -> None:
    w, a = re.match(r"(w\w)(a\d)", scheme).groups()  # type: ignore[union-attr]
    variant = f"mm_{w}{a}_planes_scalar"
    (mm,) = agent("mm", "--case", f"{scheme}:20x100:2", "--variant", variant, *QUICK).results
    assert (mm["variant"], len(mm["ns"])) == (variant, 2)


QUICK = ["--iterations", "2", "--min-ns", "0", "--warm"]


@pytest.mark.parametrize("family", [*EXTRA, "table", "deep"])
def test_a_family_is_timed_by_name_on_several_threads(agent: Any, family: str) -> None:
    """And never taken without its name."""
    scheme = "w4a8" if family == "trip" else "w4a8g64"
    variant = f"mm_w4a8_{family}_scalar"
    (mm,) = agent("mm", "--case", f"{scheme}:100x200:3", "--variant", variant, *QUICK, "--threads", "2").results
    assert mm["variant"] == variant
    assert mm["weight_bytes"] >= 100 * 200 // 2
    (best,) = agent("mm", "--case", f"{scheme}:100x200:3", *QUICK).results
    assert "x" in best["variant"].split("_")[2]


@pytest.mark.parametrize(("family", "scheme"), [("trip", "w4a8g64"), ("sparse", "w4a8ag64"), ("codebook", "w4a4ag64")])
def test_what_a_family_does_not_define_is_a_usage_error(agent: Any, family: str, scheme: str) -> None:
    answer = agent("mm", "--case", f"{scheme}:64x128:1", "--variant", f"mm_w4a8_{family}_scalar", *QUICK)
    assert answer.error["code"] == "usage"
    assert "one scale" in answer.error["message"]


@pytest.mark.parametrize("preset", ["x86_64-linux", "aarch64-linux"])
def test_no_family_file_has_a_weak_symbol(build_preset: Build, preset: str) -> None:
    """As for mm_<isa>.cc: the linker must not keep a copy that needs AVX2 for everyone."""
    objects = sorted((build_preset(preset) / "mm").rglob("families_*.cc.o"))
    assert len(objects) == 2
    for path in objects:
        rows = subprocess.run(["nm", path], capture_output=True, text=True, check=True).stdout.splitlines()
        symbols = [(row.split()[-2], row.split()[-1]) for row in rows if len(row.split()) >= 2]
        assert [name for kind, name in symbols if kind == "T"]
        assert not [name for kind, name in symbols if kind in "WwVvu"], path
        assert not [name for kind, name in symbols if kind == "T" and not name.startswith("mm_")], path
