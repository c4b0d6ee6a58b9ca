"""What tests of several folders need: an OpenSSH server on 127.0.0.1, the agent, a random model of every family.

The agent is built as users do it: by CMake preset, with the zig that pip installed.
"""

import fcntl
import getpass
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import pytest

from devices import Device, Session, open_session
from devices.transport.connection import enrol_host_key

ROOT = Path(__file__).parents[1]
KERNELS = ROOT / "kernels"
SSHD = "/usr/sbin/sshd"  # it re-executes itself, and insists on an absolute path
SFTP = "Subsystem sftp internal-sftp\n"
_START_S = 10.0


@dataclass
class Server:
    """A running sshd; `device` is how to reach it, not yet enrolled."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes]

    @property
    def device(self) -> Device:
        return Device(
            name="board",
            host="127.0.0.1",
            port=self.port,
            user=getpass.getuser(),
            identity_file=self.folder / "user_key",
            known_hosts=self.folder / "known_hosts",
            root=str(self.folder / "root"),
        )

    def open(self) -> Session:
        enrol_host_key(self.device)
        return open_session(self.device)

    def renew_host_key(self) -> None:
        """As when a board is installed anew."""
        make_key(self.folder / "host_key")

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()

    def cut(self) -> None:
        """Gone in the middle of a command, as when the power fails."""
        sessions = self.sessions()
        self.stop()
        for pid in sessions:
            os.kill(pid, signal.SIGKILL)

    def sessions(self) -> list[int]:
        """Process ids of the sshd processes that serve connections: the children of the listener."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        return [int(pid) for pid in children.split()]


def tool(path_or_name: str, package: str) -> str:
    found = shutil.which(path_or_name)
    assert found, f"{path_or_name} is missing: apt-get install {package}"
    return found


def make_key(path: Path) -> None:
    path.unlink(missing_ok=True)
    keygen = tool("ssh-keygen", "openssh-client")
    subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)


def start_server(folder: Path, port: int = 0, extra: str = SFTP) -> Server:
    sshd = tool(SSHD, "openssh-server")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where sshd drops its privileges
    port = port or free_port()
    if not (folder / "host_key").exists():
        make_key(folder / "host_key")
    if not (folder / "user_key").exists():
        make_key(folder / "user_key")
    authorized = folder / "authorized_keys"
    authorized.write_bytes((folder / "user_key.pub").read_bytes())
    config = folder / "sshd_config"
    config.write_text(
        f"ListenAddress 127.0.0.1\nPort {port}\nHostKey {folder / 'host_key'}\nAuthorizedKeysFile {authorized}\n"
        f"UsePAM no\nStrictModes no\nPidFile none\nPasswordAuthentication no\n"
        f"PermitRootLogin prohibit-password\n{extra}"
        # bash takes this for a nested shell, and leaves the .bashrc of the person who runs the tests alone.
        "SetEnv SHLVL=2\n"
    )
    log = (folder / "sshd.log").open("ab")
    process = subprocess.Popen([sshd, "-D", "-e", "-f", str(config)], stdin=subprocess.DEVNULL, stderr=log)
    server = Server(folder, port, process)
    wait_for_banner(server)
    return server


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def wait_for_banner(server: Server) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline and server.process.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", server.port), 1.0) as client:
                if client.recv(4) == b"SSH-":
                    return
        except OSError:
            time.sleep(0.05)
    server.stop()
    raise AssertionError(f"sshd did not start:\n{(server.folder / 'sshd.log').read_text()}")


@pytest.fixture(scope="session")
def start_sshd() -> Callable[..., Server]:
    return start_server


@pytest.fixture(scope="session")
def free_tcp_port() -> Callable[[], int]:
    return free_port


@pytest.fixture(scope="session")
def kernels_dir() -> Path:
    return KERNELS


@pytest.fixture(scope="session")
def build_preset() -> Callable[[str], Path]:
    """`build_preset("x86_64-linux")` gives the folder of the built binaries; building is incremental."""
    return cache(_build)


@pytest.fixture(scope="session")
def qemu() -> Callable[[str], list[str]]:
    """`qemu("cortex-a72")` is the command prefix that runs an aarch64 binary on that processor."""
    binary = shutil.which("qemu-aarch64-static")
    if binary is None:
        pytest.fail("qemu-aarch64-static is missing: sudo apt-get install qemu-user-static")
    return lambda cpu: [binary, "-cpu", cpu]


def _build(preset: str) -> Path:
    binaries = ROOT / "build" / preset
    binaries.mkdir(parents=True, exist_ok=True)
    with (binaries / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several test sessions may share the checkout; ninja does not
        _cmake("-S", str(KERNELS), "--preset", preset)
        _cmake("--build", str(binaries))
    return binaries


def _cmake(*arguments: str) -> None:
    cmake = Path(sys.executable).with_name("cmake")
    ninja = Path(sys.executable).with_name("ninja")
    if not (cmake.exists() and ninja.exists()):
        pytest.fail(f"no cmake and ninja beside {sys.executable}: pip install cmake ninja ziglang")
    made_by = ["-DCMAKE_MAKE_PROGRAM=" + str(ninja)] if arguments[0] == "-S" else []
    done = subprocess.run([cmake, *arguments, *made_by], cwd=KERNELS, capture_output=True, text=True)
    if done.returncode:
        pytest.fail(f"cmake {' '.join(arguments)} failed:\n{done.stdout[-8000:]}\n{done.stderr[-4000:]}")


EXIT_STATUS = {"usage": 2, "model": 3, "memory": 4, "unsupported": 5, "io": 6, "lease": 7}


@dataclass(frozen=True)
class Answer:
    """What one run of the agent printed between its first and last line."""

    status: int
    results: list[dict[str, Any]]
    error: dict[str, Any] | None


class Agent:
    """Runs the agent, natively or on an emulated processor, and holds every stream to PROTOCOL.md."""

    def __init__(self, command: Sequence[str | Path]) -> None:
        self.command = [str(word) for word in command]

    def __call__(self, *words: object, **options: Any) -> Answer:
        command = [*self.command, *(os.fsencode(str(word)) for word in words)]
        run = subprocess.run(command, capture_output=True, timeout=300, **options)
        return check_stream(run.stdout, run.returncode, run.stderr)


def check_stream(stdout: bytes, status: int, stderr: bytes = b"") -> Answer:
    """Fails unless the stream is hello, results, and the end that belongs to the exit status."""
    assert status >= 0, f"ended by signal {-status}: {stderr!r}"
    assert stdout.endswith(b"\n"), stdout[-200:]
    rows = stdout.decode("utf-8").split("\n")[:-1]
    assert max(map(len, rows)) < 1 << 20
    first, *results, last = (json.loads(row, parse_constant=_no_number) for row in rows)
    assert (first["type"], first["protocol"]) == ("hello", 1)
    times = [line["t"] for line in (first, *results, last)]
    assert times == sorted(times)
    if last["type"] == "done":
        assert status == 0
        return Answer(status, results, None)
    assert last["type"] == "error" and last["message"], last
    assert status == EXIT_STATUS[last["code"]]
    return Answer(status, results, last)


def _no_number(word: str) -> NoReturn:
    raise AssertionError(f"{word} is no JSON number")


@pytest.fixture(scope="session")
def agent(build_preset: Callable[[str], Path]) -> Agent:
    """The agent of this machine."""
    return Agent([build_preset("x86_64-linux") / "agent" / "agent"])


@pytest.fixture(scope="session")
def arm_agent(build_preset: Callable[[str], Path], qemu: Callable[[str], list[str]]) -> Callable[[str], Agent]:
    """`arm_agent("cortex-a72")` is the aarch64 agent on that processor."""
    binary = build_preset("aarch64-linux") / "agent" / "agent"
    return lambda cpu: Agent([*qemu(cpu), binary])


@pytest.fixture(scope="session")
def read_stream() -> Callable[..., Answer]:
    return check_stream


DeviceLogprobs = Callable[..., npt.NDArray[np.float32]]


@pytest.fixture
def device_logprobs(agent: Agent, tmp_path: Path) -> DeviceLogprobs:
    """`device_logprobs(quantized, tokens, window)` [R, V]: what evaluate.full_logprobs says of the model, by the agent.

    Writes the model file, checks that it reads back, and scores the tokens [count]. `run`: another agent, such as
    arm_agent("max"). More words go to the agent, such as "--kv", "int8".
    """
    from quantizers.export import read_reference, verify_roundtrip, write_gguf, write_tokens

    def logprobs(quantized: Any, tokens: Any, window: int, *words: Any, run: Agent = agent) -> npt.NDArray[np.float32]:
        model, text, rows = tmp_path / "device.gguf", tmp_path / "device.tokens", tmp_path / "device.rows"
        write_gguf(quantized, model)
        verify_roundtrip(quantized, model)
        write_tokens(text, tokens.tolist(), quantized.source.config.vocab_size)
        answer = run(
            "score", "--model", model, "--tokens", text, "--window", window, "--write-reference", rows, *words
        )  # fmt: skip
        assert answer.error is None, answer.error
        return np.array(read_reference(rows)[0])

    return logprobs


_LLAMA_SIZES = dict(
    hidden_size=48, intermediate_size=172, num_hidden_layers=2, num_attention_heads=6, num_key_value_heads=2,
    head_dim=8, max_position_embeddings=256, initializer_range=0.15,
)  # fmt: skip
FAMILY_CONFIGS: dict[str, dict[str, Any]] = {
    "Llama": {**_LLAMA_SIZES, "tie_word_embeddings": False},
    "Mistral": {**_LLAMA_SIZES, "tie_word_embeddings": True, "sliding_window": None},
    "Qwen2": {**_LLAMA_SIZES, "tie_word_embeddings": True},
    "Qwen3": {**_LLAMA_SIZES, "hidden_size": 44, "tie_word_embeddings": False},
    "OPT": dict(
        hidden_size=40, ffn_dim=172, num_hidden_layers=2, num_attention_heads=5, max_position_embeddings=256,
        init_std=0.15, tie_word_embeddings=True,
    ),
    "Bloom": dict(
        hidden_size=40, n_layer=2, n_head=5, seq_length=256, initializer_range=0.15, tie_word_embeddings=True,
    ),
}  # fmt: skip
"""Sizes that are no multiples of anything: head dimension 8, K = 40 to 172, and a vocabulary of 511."""


@pytest.fixture(scope="session")
def write_tokenizer() -> Callable[[Path], Path]:
    """Writes a byte-level BPE with the 256 bytes and little else, trained on one sentence; returns the folder."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    def write(folder: Path) -> Path:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=270, initial_alphabet=alphabet, show_progress=False)
        tokenizer.train_from_iterator(["the cat sat on the mat and the rat ran"], trainer)
        tokenizer.save(str(folder / "tokenizer.json"))
        (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
        return folder

    return write


@pytest.fixture(scope="session")
def write_family(write_tokenizer: Callable[[Path], Path]) -> Callable[..., Path]:
    """`write_family("OPT", folder, **changes)`: a Hugging Face folder with a random model, its biases and norms too."""

    def write(name: str, folder: Path, **changes: Any) -> Path:
        import torch
        import transformers

        torch.manual_seed(17)
        config = getattr(transformers, f"{name}Config")(**{"vocab_size": 511, **FAMILY_CONFIGS[name], **changes})
        model = getattr(transformers, f"{name}ForCausalLM")(config)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim == 1:
                    parameter += 0.2 * torch.randn_like(parameter)
        model.half().save_pretrained(folder)
        return write_tokenizer(folder)

    return write


@pytest.fixture(scope="session")
def family_folder(write_family: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """`family_folder("OPT")`, written once a session."""
    return cache(lambda name: write_family(name, tmp_path_factory.mktemp(name)))


@pytest.fixture(scope="session", params=FAMILY_CONFIGS)
def family_model(request: pytest.FixtureRequest, family_folder: Callable[[str], Path]) -> Any:
    """A LoadedModel of every family, one after the other: 2 blocks, vocabulary 511, 256 positions."""
    import torch

    from quantizers.models import load

    torch.set_num_threads(1)
    return load(family_folder(request.param))


@pytest.fixture(scope="session")
def family_tokens() -> Any:
    """Four windows of 24 random tokens for `family_model`."""
    import torch

    return torch.randint(0, 511, (4, 24), generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="session")
def random_linear() -> Callable[[Any, int], Any]:
    """`random_linear(weight, seed)`: a linear near a weight [N, K], in a general form that the seed draws."""
    return _random_linear


def _random_linear(weight: Any, seed: int) -> Any:
    """Every part is there in about half of the draws; the weight keeps about its place in the pieces."""
    import torch

    from quantizers.linear import Inputs, QuantizedLinear, hadamard_transform

    random = np.random.RandomState(seed)
    draw = torch.Generator().manual_seed(seed)
    n, k = weight.shape
    size = int(random.choice([s for s in (1, 1, 2, 4, 8, 32) if k % s == 0]))
    order = torch.randperm(k, generator=draw) if random.rand() < 0.5 else None
    factors = torch.rand(k, generator=draw) + 0.5 if random.rand() < 0.5 else None
    bits = int(random.choice([8, 8, 8, 6, 4, 16]))
    fixed = bits < 16 and random.rand() < 0.3
    inputs = Inputs(size, order, factors, 4 / 2 ** (bits - 1) if fixed else None, int(random.randint(-2, 3)) * fixed)
    row = hadamard_transform(weight, size)
    row = row if order is None else row[:, order]
    row = row if factors is None else row / factors
    rows = torch.randperm(n, generator=draw) if random.rand() < 0.4 else None
    pieces = _row_pieces(row[rows], bits, random) if rows is not None else _column_pieces(row, bits, random)
    return QuantizedLinear(
        pieces, inputs, rows, _random_side(n, k, random, draw), _random_outliers(n, k, random, draw)
    )  # fmt: skip


def _row_pieces(rows: Any, bits: int, random: Any) -> tuple[Any, ...]:
    group = str(random.choice(["", "g32", "ag64"])) if bits < 16 else "g32"
    cuts = sorted({0, 8 * random.randint(0, len(rows) // 8 + 1), len(rows)})
    return tuple(_random_piece(rows[a:b], bits, group, random) for a, b in pairwise(cuts))


def _column_pieces(row: Any, bits: int, random: Any) -> tuple[Any, ...]:
    own = bits < 16 and random.rand() < 0.3
    k = row.shape[1]
    cuts = sorted({0, *(64 * random.randint(0, k // 64 + 1, 2)), k})
    groups = ["ag64"] if own else ["", "g32", "g64"]
    return tuple(_random_piece(row[:, a:b], bits, str(random.choice(groups)), random) for a, b in pairwise(cuts))


def _random_piece(weight: Any, bits: int, group: str, random: Any) -> Any:
    import torch

    from quantizers.primitives import Levels, QuantizedWeight, quantize
    from quantizers.scheme import Scheme

    kind = random.choice(["plain", "plain", "fp16", "codebook", "levels"])
    if kind == "fp16" and bits == 16:
        return weight.half()
    if kind not in ("codebook", "levels") or bits == 16 or "a" in group:
        return quantize(weight, Scheme.parse(f"w{random.choice(['t', *'12345678'])}a{bits}{group}"))
    plain = quantize(weight, Scheme.parse(f"w4a{bits}{group}"))
    if kind == "codebook":
        book = torch.from_numpy(np.sort(random.randint(-127, 128, 16)).astype(np.int8))
        return QuantizedWeight(plain.scheme, plain.codes, (plain.scales.float() / 16).half(), codebook=book)
    scales = torch.from_numpy(random.randint(1, 9, plain.scales.shape).astype(np.int8))
    zeros = torch.from_numpy(random.randint(6, 10, plain.scales.shape).astype(np.uint8))
    return QuantizedWeight(
        plain.scheme, plain.codes, (plain.scales[:, :1].float() / 4).half(), levels=Levels(scales, zeros)
    )


def _random_side(n: int, k: int, random: Any, draw: Any) -> Any:
    import torch

    from quantizers.linear import Side

    if random.rand() < 0.5:
        return None
    begin = torch.from_numpy(random.randint(0, k, random.randint(1, 6)).astype(np.int32))
    width = torch.from_numpy(random.randint(1, 40, len(begin)).astype(np.int32))
    weights = 0.02 * torch.randn(n, len(begin), generator=draw)
    return Side(begin, (begin + width).clamp(max=k), weights.half())


def _random_outliers(n: int, k: int, random: Any, draw: Any) -> Any:
    import torch

    from quantizers.linear import Sparse

    if random.rand() < 0.5:
        return None
    values = 0.1 * torch.randn(n, k, generator=draw)
    return Sparse.of(values.where(torch.rand(n, k, generator=draw) < random.choice([0.0, 0.01, 0.3]), torch.zeros(())))
