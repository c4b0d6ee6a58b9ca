"""The matrix products: exact on every instruction set, one layout, nothing that the linker could mix up."""

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

PRESETS = ["x86_64-linux", "aarch64-linux"]
VARIANT = re.compile(r"^MM_VARIANT\((\w+), (\w+), (\w+), (\d+), (\d+)\)$", re.MULTILINE)
PLANES = {1: [1], 2: [2], 3: [2, 1], 4: [4], 5: [4, 1], 6: [4, 2], 7: [4, 2, 1], 8: [8]}
# What each instruction set for x86 needs (kernels/mm/mm.cc), in Linux's words.
AVX2 = {"avx2", "fma", "f16c"}
X86 = {
    "scalar": set[str](),
    "avx2": AVX2,
    "avxvnni": AVX2 | {"avx_vnni"},
    "avx512vnni": AVX2 | {"avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni"},
}
# Rows of a prefill tile, where they are not 16.
TILE_ROWS = {("neon", "8"): 8, ("neon", "4"): 8, ("dotprod", "8"): 8}

Build = Callable[[str], Path]


def unpack(packed: bytes, bits: int, rows: int, columns: int) -> np.ndarray:
    """Codes [rows, columns] of a packed linear, read field by field as kernels/FORMAT.md section 2 says."""
    blocks = np.frombuffer(packed, np.uint8).reshape(rows // 8, columns // 32, 32 * bits)
    row, column = np.mgrid[0:8, 0:32]
    step, byte = column // 4, 4 * row + column % 4
    codes = np.zeros((rows // 8, columns // 32, 8, 32), np.uint8)
    start = 0
    for width in PLANES[bits]:
        fields = blocks[:, :, start + 32 * (step * width // 8) + byte] >> (width * (step % (8 // width)))
        codes = (codes << width) | (fields & (2**width - 1)) if width < 8 else fields
        start += 32 * width
    return codes.transpose(0, 2, 1, 3).reshape(rows, columns)


@pytest.fixture(scope="module")
def pack(build_preset: Build) -> Callable[[int, np.ndarray], bytes]:
    mm_test = build_preset("x86_64-linux") / "mm" / "mm_test"

    def run(bits: int, codes: np.ndarray) -> bytes:
        words = [mm_test, "--pack", *map(str, (bits, *codes.shape))]
        return subprocess.run(words, input=codes.tobytes(), capture_output=True, check=True).stdout

    return run


def check(command: list[str | Path]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.fullmatch(r"[a-z0-9,]+: [1-9]\d+ passed, 0 failed\n", done.stdout)


def isas_of_this_machine() -> str:
    """As Linux names the features of the CPU, which is not how our agent finds them."""
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    flags = set(re.findall(r"^flags\s*: (.*)$", text, re.MULTILINE)[0].split())
    return ",".join(isa for isa, needs in X86.items() if needs <= flags)


def test_every_kernel_equals_the_reference_on_this_machine(build_preset: Build) -> None:
    """And only instruction sets that this machine lacks are left out."""
    isas = isas_of_this_machine()
    assert isas.startswith("scalar,avx2")
    check([build_preset("x86_64-linux") / "mm" / "mm_test", "--expect", isas])


@pytest.mark.parametrize(
    ("cpu", "isas"),
    [
        ("cortex-a53", "scalar,neon"),
        ("cortex-a72", "scalar,neon"),
        ("cortex-a76", "scalar,neon,dotprod"),
        ("neoverse-n1", "scalar,neon,dotprod"),
        ("max", "scalar,neon,dotprod,i8mm"),
    ],
)
def test_every_arm_kernel_equals_the_reference_on_processors_that_have_it(
    build_preset: Build, qemu: Callable[[str], list[str]], cpu: str, isas: str
) -> None:
    """And is not offered on the others: a Cortex-A72 (Raspberry Pi 4) has no dot product, an A76 (Pi 5) no smmla."""
    # Emulated, all cases take a minute and a half: every kernel on some of them, on the most able processor on more.
    every = "3" if cpu == "max" else "7"
    check([*qemu(cpu), build_preset("aarch64-linux") / "mm" / "mm_test", "--expect", isas, "--every", every])


def test_without_a_list_the_first_instruction_set_of_the_architecture_must_run(build_preset: Build) -> None:
    """What is emulated without AVX2 must not pass as a test of the AVX2 kernels."""
    qemu = shutil.which("qemu-x86_64-static")
    if qemu is None:
        pytest.fail("qemu-x86_64-static is missing: sudo apt-get install qemu-user-static")
    command: list[str | Path] = [qemu, "-cpu", "Nehalem", build_preset("x86_64-linux") / "mm" / "mm_test"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 1
    assert "instruction sets that run here are scalar, expected avx2,scalar" in done.stderr


def test_a_missing_instruction_set_is_an_error(build_preset: Build) -> None:
    done = subprocess.run(
        [build_preset("x86_64-linux") / "mm" / "mm_test", "--expect", "scalar,sve"], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "expected scalar,sve" in done.stderr


@settings(max_examples=60, deadline=None)
@given(bits=st.sampled_from(sorted(PLANES)), rows=st.integers(1, 20), columns=st.integers(1, 100), seed=st.integers(0))
def test_packing_follows_the_format(
    pack: Callable[[int, np.ndarray], bytes], bits: int, rows: int, columns: int, seed: int
) -> None:
    """What the formula of FORMAT.md reads back is what went in; padding is the code 2^(bits-1), of one bit 0."""
    codes = np.random.default_rng(seed).integers(0, 2**bits, (rows, columns), np.uint8)
    padded = np.full((-(-rows // 8) * 8, -(-columns // 32) * 32), 2 ** (bits - 1) if bits > 1 else 0, np.uint8)
    padded[:rows, :columns] = codes
    packed = pack(bits, codes)
    assert len(packed) == padded.size * bits // 8
    np.testing.assert_array_equal(unpack(packed, bits, *padded.shape), padded)


def variants(kernels_dir: Path) -> list[tuple[str, ...]]:
    return VARIANT.findall((kernels_dir / "mm" / "variants.inc").read_text(encoding="utf-8"))


def test_a_variant_is_named_by_what_it_is(kernels_dir: Path) -> None:
    table = variants(kernels_dir)
    assert len(table) == (kernels_dir / "mm" / "variants.inc").read_text(encoding="utf-8").count("\nMM_VARIANT(")
    for isa, name, weight, activation_bits, tile_m in table:
        bits = "t" if weight == "MM_TERNARY" else weight
        if tile_m == "1":
            rows, columns = (1, 8) if weight == "16" else (8, 4)
        else:
            rows, columns = TILE_ROWS.get((isa, activation_bits), 16), 1 if weight == "16" else 4
        assert name == f"mm_w{bits}a{activation_bits}_{tile_m}x{rows}x{columns}_{isa}"


def test_every_instruction_set_and_tile_is_in_the_readme(kernels_dir: Path) -> None:
    readme = (kernels_dir / "README.md").read_text(encoding="utf-8")
    for isa, name, *_ in variants(kernels_dir):
        assert f"| `{isa}` |" in readme
        assert f"`{name.split('_')[2]}`" in readme


def symbol_table(binary: Path) -> list[tuple[str, str]]:
    """(type letter, name) of each symbol, as `nm` of any architecture prints it."""
    try:
        text = subprocess.run(["nm", binary], capture_output=True, text=True, check=True).stdout
    except FileNotFoundError:
        pytest.fail("nm is missing: sudo apt-get install binutils")
    rows = [line.split() for line in text.splitlines()]
    return [(row[-2], row[-1]) for row in rows if len(row) >= 2]


@pytest.mark.parametrize("preset", PRESETS)
def test_no_kernel_file_has_a_weak_symbol(build_preset: Build, preset: str) -> None:
    """The linker keeps one copy of a weak function for everyone: it could be the one that needs AVX2."""
    objects = sorted((build_preset(preset) / "mm").rglob("mm_*.cc.o"))
    kernels = [path for path in objects if path.name != "mm_test.cc.o"]
    assert len(kernels) == {"x86_64-linux": 4, "aarch64-linux": 4}[preset]
    for path in kernels:
        symbols = symbol_table(path)
        assert [name for kind, name in symbols if kind == "T" and name.startswith("mm_")]
        assert not [name for kind, name in symbols if kind in "WwVvu"], path
        assert not [name for kind, name in symbols if kind == "T" and not name.startswith("mm_")], path


@pytest.mark.parametrize("preset", PRESETS)
def test_no_loop_of_the_peaks_has_a_weak_symbol(build_preset: Build, preset: str) -> None:
    objects = sorted((build_preset(preset) / "peak").rglob("peak_*.cc.o"))
    assert len(objects) == 4
    for path in objects:
        symbols = symbol_table(path)
        assert [name for kind, name in symbols if kind == "T" and name.startswith("peak_")]
        assert not [name for kind, name in symbols if kind in "WwVvu"], path
        assert not [name for kind, name in symbols if kind == "T" and not name.startswith("peak_")], path


@pytest.mark.parametrize("preset", PRESETS)
def test_binaries_are_static(build_preset: Build, preset: str) -> None:
    """A device needs no C library of ours: the ELF file asks for no interpreter (PT_INTERP, type 3)."""
    binary = (build_preset(preset) / "mm" / "mm_test").read_bytes()
    headers, size, count = (int.from_bytes(binary[at : at + n], "little") for at, n in [(32, 8), (54, 2), (56, 2)])
    types = [int.from_bytes(binary[headers + i * size : headers + i * size + 4], "little") for i in range(count)]
    assert types
    assert 3 not in types
