"""Remakes the golden answers of the agent, all or those named: python tests/golden/protocol/record.py AGENT [NAME ..]

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
LLM = ["llm", "--model", MODEL, "--prefill", "16", "--decode", "8", "--iterations", "3"]
ECHO = ["--watch-run", "echo", "--watch-run", "1.5 A"]
WATCH = ["--watch", "/proc/sys/kernel/pid_max", "--watch", "/nonexistent", *ECHO]
COMMANDS = {
    "info": ["info"],
    "spin": ["spin", "--cpu", "0", "--ms", "20"],
    "idle": ["idle", "--ms", "50", *WATCH],
    "mm": ["mm", "--case", "w4a8g128:256x256:1", "--case", "w8a8:256x256:16", "--iterations", "3"],
    "peak": ["peak", "--ms", "1", "--cpus", "0"],
    "llm": LLM,
    "watch": [*LLM, "--signature", *WATCH, "--watch-period-ns", "500000000"],
    "score": [*SCORE, "--reference", REFERENCE],
    "error": ["score", "--model", TOKENS, "--tokens", TOKENS, "--window", "16"],
}

PEER = ["onnxruntime", "--case", "4:256x256:1", "--case", "8:256x256:16", "--iterations", "3"]
"""What `python -m harness.peers` is asked, which speaks the same protocol."""

GOVERNOR = "/sys/devices/system/cpu/cpufreq/policy0/scaling_governor"
LEASE = ["lease", "--fence", "12", "--holder", "lab 3, campaign 7"]
CONVERSATION = ["beat", f"write\t{GOVERNOR}\tperformance", "undo\ttrue", "sing", "end"]
"""What a harness says to `lease`, on a board that has one governor."""


def main() -> None:
    agent = str(Path(sys.argv[1]).resolve())
    wanted = sys.argv[2:] or [*COMMANDS, "lease", "peer"]
    for name, options in COMMANDS.items():
        if name not in wanted:
            continue
        completed = subprocess.run([agent, *options], capture_output=True, text=True, check=False)
        (FOLDER / f"{name}.jsonl").write_text(completed.stdout)
    if "lease" in wanted:
        (FOLDER / "lease.jsonl").write_text(hold_lease(agent))
    if "peer" in wanted:
        command = [sys.executable, "-m", "harness.peers", *PEER]
        completed = subprocess.run(command, capture_output=True, text=True, check=True)
        (FOLDER / "peer.jsonl").write_text(completed.stdout)


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
