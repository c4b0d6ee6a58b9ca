"""Instructions: what a product executes on an Arm processor that is not here, ours and onnxruntime's.

Counted under an emulator by the differences of runs with different numbers of calls; nothing is timed. The
cycles are a static estimate (devices/virtual/counting/cycles.py). Neither knows of memory: decoding may wait for it.
"""

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

from devices.device import Device
from devices.errors import DeviceError
from devices.inventory import Inventory
from devices.virtual.board import Board, board_names, load_board
from devices.virtual.counting.cycles import CORES, cycles_of
from devices.virtual.counting.emulator import Emulator, Run
from devices.virtual.counting.python import Python, prepare
from devices.virtual.counting.work import Work, work_of_call
from devices.virtual.lab import ALIASES, TAG
from harness.build import bench_home
from harness.errors import InfrastructureError, UnsupportedError
from harness.kernel_cases import Case
from harness.onnx_product import BITS, BLOCKS, INPUT, OUTPUT, matmul_nbits
from harness.progress import Advance

DEFAULT_CASES = tuple(
    f"{scheme}:{product}"
    for scheme in ("w2a8g128", "w3a8g128", "w4a8g128", "w4a8g32", "w8a8g128", "w8a8g32")
    for product in ("2048x2048:1", "1024x1024:16")
)
CALLS = 3
"""Calls of the shortest run; two more have twice and three times as many."""

PEER = "onnxruntime"
_PEER_PROGRAM = f"""
import sys
import numpy, onnxruntime
file, m, k, calls = sys.argv[1], *map(int, sys.argv[2:])
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
x = numpy.linspace(-1, 1, m * k, dtype=numpy.float32).reshape(m, k)
for _ in range(calls):
    session.run(["{OUTPUT}"], {{"{INPUT}": x}})
"""


class Product(Case):
    """A case, and whether the peer multiplies it."""

    @property
    def has_peer(self) -> bool:
        """Whether MatMulNBits multiplies it."""
        scheme = self.scheme
        known = scheme.weight_bits in BITS and scheme.activation_bits == 8 and scheme.group in BLOCKS
        return known and self.k % scheme.group == 0


@dataclass(frozen=True)
class Counted:
    """What one product executes; `estimated_cycles_per_mac` by core, None where it lacks an instruction.

    `inner_loop_share`: of all instructions, those of the block that executes most. `left_out_per_mac` was not the same
    in every call and is not counted.
    """

    case: str
    kernel: str
    cpu: str
    instructions_per_mac: float
    estimated_cycles_per_mac: dict[str, float | None]
    inner_loop_share: float
    left_out_per_mac: float


def board_of(lab: Inventory, name: str) -> Board:
    """The virtual board of that name, up or not; raises UnsupportedError for a device that is real."""
    device = next((one for one in lab if one.name == name), None)
    wanted = ALIASES.get(name, name) if device is None else _board_name(device)
    if wanted in board_names():
        return load_board(wanted)
    what = "is a real device" if device else "is no virtual board"
    raise UnsupportedError(
        f"instructions are counted for virtual boards, {name!r} {what}: name one of {', '.join(board_names())} "
        "(it need not be up), or leave out --instructions and time the device"
    )


def count_products(
    board: Board, agent: Path, cases: Sequence[str], variant: str | None, advance: Advance
) -> tuple[list[Counted], list[str]]:
    """Our product and the peer's for every case, and what could not be counted of the peer, and why."""
    emulator, products = Emulator(bench_home()), [Product.parse(case) for case in cases]
    peer, notes = _peer(emulator, products, advance)
    found = []
    for done, product in enumerate(products):
        advance(done, len(products), str(product))
        found.append(_ours(emulator, board, agent, product, variant))
        if peer is not None and product.has_peer:
            found.append(_theirs(emulator, board, peer, product))
    return found, notes


def _board_name(device: Device) -> str:
    """Of a running virtual board; a whole machine bears the name of its board."""
    if TAG not in device.tags:
        return ""
    return next((tag for tag in device.tags if tag in board_names()), device.name)


def _peer(emulator: Emulator, products: Sequence[Product], advance: Advance) -> tuple[Python | None, list[str]]:
    if not any(product.has_peer for product in products):
        return None, []
    wheels = [f"{name}=={version(name)}" for name in ("numpy", PEER)]
    try:
        return prepare(bench_home(), emulator, wheels, lambda step: advance(0, 0, f"{PEER} for aarch64: {step}")), []
    except DeviceError as error:
        return None, [f"{PEER}: n/a, {error}"]


def _ours(emulator: Emulator, board: Board, agent: Path, product: Product, variant: str | None) -> Counted:
    options = ["--warm", "--iterations", "1", *(["--variant", variant] if variant else [])]

    def run(calls: int) -> Run:
        argv = [str(agent), "mm", "--case", str(product), *options, "--calls", str(calls)]
        return emulator.run(argv, board.qemu_cpu)

    runs = [run(times * CALLS) for times in (1, 2, 3)]
    return _counted(product, _kernel(runs[0].stdout), board, work_of_call([one.blocks for one in runs], CALLS))


def _kernel(stdout: str) -> str:
    lines = [json.loads(line) for line in stdout.splitlines()]
    found = [line["variant"] for line in lines if line["type"] == "mm"]
    if len(found) != 1:
        raise InfrastructureError(f"expected one line of a product from the agent, found {stdout[-500:]!r}")
    return str(found[0])


def _theirs(emulator: Emulator, board: Board, peer: Python, product: Product) -> Counted:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "product.onnx"
        file.write_bytes(_model(product))

        def run(calls: int) -> Run:
            return peer.run(emulator, board, _PEER_PROGRAM, [str(file), str(product.m), str(product.k), str(calls)])

        blocks = [run(times * CALLS).blocks for times in (1, 2, 3)]
    kernel = f"{PEER} {version(PEER)} MatMulNBits"
    return _counted(product, kernel, board, work_of_call(blocks, CALLS))


def _model(product: Product) -> bytes:
    """With random weights."""
    random, scheme = np.random.default_rng(1), product.scheme
    blocks = (product.n, product.k // scheme.group)
    codes = random.integers(0, 256, (*blocks, scheme.group * scheme.weight_bits // 8), dtype=np.uint8)
    return matmul_nbits(codes, random.uniform(0.001, 0.01, blocks).astype(np.float32), scheme.weight_bits, product.m)


def _counted(product: Product, kernel: str, board: Board, work: Work) -> Counted:
    if not work.blocks:
        raise InfrastructureError(f"{kernel} of {product} executed nothing that is the same in every call")
    cycles = {core: cycles_of(work.blocks, core) for core in CORES}
    return Counted(
        case=str(product),
        kernel=kernel,
        cpu=board.qemu_cpu,
        instructions_per_mac=work.instructions / product.macs,
        estimated_cycles_per_mac={core: one and one / product.macs for core, one in cycles.items()},
        inner_loop_share=max(block.executed for block in work.blocks) / work.instructions,
        left_out_per_mac=work.left_out / product.macs,
    )
