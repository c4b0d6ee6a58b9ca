"""Remakes the golden answers of the agent: python tests/golden/protocol/record.py AGENT

The numbers are those of the machine that recorded them: tests look at their form. Commands are those of COMMANDS.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
MODEL = str(FOLDER.parent / "model.gguf")
TOKENS = str(FOLDER.parent / "model.tokens")
REFERENCE = str(FOLDER.parent / "model-fp16.reference")

SCORE = ["score", "--model", MODEL, "--tokens", TOKENS, "--window", "16"]
COMMANDS = {
    "info": ["info"],
    "spin": ["spin", "--cpu", "0", "--ms", "20"],
    "mm": ["mm", "--case", "w4a8g128:256x256:1", "--case", "w8a8:256x256:16", "--iterations", "3"],
    "llm": ["llm", "--model", MODEL, "--prefill", "16", "--decode", "8", "--iterations", "3"],
    "score": [*SCORE, "--reference", REFERENCE],
    "error": ["score", "--model", TOKENS, "--tokens", TOKENS, "--window", "16"],
}

GOVERNOR = "/sys/devices/system/cpu/cpufreq/policy0/scaling_governor"
LEASE = ["lease", "--fence", "12", "--holder", "lab 3, campaign 7"]
CONVERSATION = ["beat", f"write\t{GOVERNOR}\tperformance", "undo\ttrue", "sing", "end"]
"""What a harness says to `lease`, on a board that has one governor."""


def main() -> None:
    agent = str(Path(sys.argv[1]).resolve())
    for name, options in COMMANDS.items():
        completed = subprocess.run([agent, *options], capture_output=True, text=True, check=False)
        (FOLDER / f"{name}.jsonl").write_text(completed.stdout)
    (FOLDER / "lease.jsonl").write_text(hold_lease(agent))


def hold_lease(agent: str) -> str:
    with tempfile.TemporaryDirectory() as board:
        governor = Path(board + GOVERNOR)
        governor.parent.mkdir(parents=True)
        governor.write_text("ondemand\n")
        command = [agent, *LEASE, "--file", f"{board}/lease", "--root", board]
        said = "".join(f"{line}\n" for line in CONVERSATION)
        return subprocess.run(command, input=said, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    main()
