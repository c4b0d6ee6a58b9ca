"""Cycles: how long blocks of code would take on a core, by LLVM's static model of it. Estimates, for ranking only.

A block is taken as a loop whose data are in the first cache and whose branches are foreseen.
"""

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from devices.virtual.counting.emulator import Block
from devices.virtual.counting.errors import CountingError, find_tool
from devices.virtual.counting.work import hottest, joined

LLVM = 19
"""Versions disagree about the same loop by up to two, so this one is asked and no other."""

CORES = {"A72": "cortex-a72", "A76": "neoverse-n1", "A710": "neoverse-n2", "X1": "neoverse-v1"}
"""Core -> the model of LLVM that is asked for it.

LLVM's cortex-a72 is its model of the A57. Its cortex-a76 would be that too; the Neoverse N1, N2 and V1 are the servers'
A76, A710 and X1 (Arm's technical reference manuals), and have models of their own.
"""

_COVERED = 0.95
"""Of the executed instructions: what is left is start and end of loops, and taken to be as fast."""

_ITERATIONS = 100
_SKIP = "--skip-unsupported-instructions=lack-sched"  # atomics, of which some models do not know the time


def cycles_of(blocks: Sequence[Block], core: str) -> float | None:
    """Cycles that one execution of all blocks takes on one of CORES; None if it lacks an instruction of them."""
    found = hottest(joined(blocks), _COVERED)
    each = _estimates(_assembly([block.code for block in found]), CORES[core])
    if each is None:
        return None
    scale = sum(block.executed for block in blocks) / sum(block.executed for block in found)
    return scale * sum(cycles * block.executions for cycles, block in zip(each, found, strict=True))


def _assembly(codes: Sequence[bytes]) -> str:
    """The text of the code, each piece a region for llvm-mca."""
    lines = [" ".join(f"{byte:#04x}" for byte in code) for code in codes]
    argv = [find_tool(f"llvm-mc-{LLVM}", f"llvm-{LLVM}"), "--disassemble", "--triple=aarch64", "--mattr=+all"]
    done = subprocess.run(argv, input="\n".join(lines), capture_output=True, text=True, check=False)
    # The first line is a directive; an instruction that LLVM does not know is missing, and complained of.
    text = [line for line in done.stdout.splitlines() if line and not line.lstrip().startswith(".")]
    if done.returncode != 0 or done.stderr or len(text) != sum(map(len, codes)) // 4:
        raise CountingError(f"llvm-mc-{LLVM} cannot read the executed code: {done.stderr[-500:]}")
    rest = iter(text)
    regions = [[next(rest) for _ in range(len(code) // 4)] for code in codes]
    return "\n".join(f"# LLVM-MCA-BEGIN\n{chr(10).join(region)}\n# LLVM-MCA-END" for region in regions) + "\n"


def _estimates(assembly: str, model: str) -> list[float] | None:
    """Cycles a repetition of each region; None if the model's core lacks an instruction."""
    with TemporaryDirectory() as folder:
        source = Path(folder) / "loops.s"
        source.write_text(assembly)
        options = ("--mtriple=aarch64", f"--mcpu={model}", f"--iterations={_ITERATIONS}", "--json", _SKIP)
        argv = [find_tool(f"llvm-mca-{LLVM}", f"llvm-{LLVM}"), *options, str(source)]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if "instruction requires" in done.stderr:
        return None
    if done.returncode != 0:
        raise CountingError(f"llvm-mca-{LLVM} failed for {model}: {done.stderr[-500:]}")
    regions = json.loads(done.stdout)["CodeRegions"]
    return [region["SummaryView"]["TotalCycles"] / _ITERATIONS for region in regions]
