"""What fuzzing reached (kernels/fuzz/README.md), against the real agent: an error line or a result, never a signal."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

CORPUS = Path(__file__).parents[1] / "golden" / "fuzz"
MODELS = sorted((CORPUS / "model").iterdir())
SEEDS = sorted((CORPUS / "seed").iterdir())
DATA_FILES = sorted((CORPUS / "data_file").iterdir())
LEASES = sorted((CORPUS / "lease").iterdir())
COMMANDS = ("mm", "llm", "score")


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.name)
def test_a_fuzzed_model_is_run_or_refused(agent: Any, path: Path) -> None:
    answer = agent("llm", "--model", path, "--prefill", 2, "--decode", 1, "--iterations", 1)
    assert answer.error is None or answer.error["code"] in {"model", "unsupported", "usage"}


@pytest.mark.parametrize("path", SEEDS, ids=lambda path: path.name)
def test_fuzzing_starts_from_models_that_run(agent: Any, path: Path) -> None:
    answer = agent("llm", "--model", path, "--prefill", 2, "--decode", 1, "--iterations", 1)
    assert answer.error is None
    assert path.stat().st_size <= 8192, "as kernels/fuzz/README.md says to the fuzzer"


@pytest.mark.parametrize("path", DATA_FILES, ids=lambda path: path.name)
def test_a_fuzzed_data_file_is_refused(agent: Any, path: Path) -> None:
    golden = CORPUS.parent
    model = ("score", "--model", golden / "model.gguf", "--window", 16)
    as_tokens = agent(*model, "--tokens", path)
    as_reference = agent(*model, "--tokens", golden / "model.tokens", "--reference", path)
    assert as_tokens.error is not None and as_tokens.error["code"] == "model"
    assert as_reference.error is not None and as_reference.error["code"] == "model"


@pytest.mark.parametrize("path", LEASES, ids=lambda path: path.name)
def test_a_fuzzed_lease_file_is_taken_or_left_as_it_is(agent: Any, path: Path, tmp_path: Path) -> None:
    file = tmp_path / "lease"
    file.write_bytes(path.read_bytes())
    file.chmod(0o644)
    answer = agent("lease", "--file", file, "--fence", 100, "--holder", "test", stdin=subprocess.DEVNULL)
    assert answer.error is not None and answer.error["code"] == "lease"
    taken = any(result["event"] == "held" for result in answer.results)
    assert taken or file.read_bytes() == path.read_bytes()


def test_fuzzed_models_reach_both_the_parser_and_the_runtime(agent: Any) -> None:
    """Otherwise the corpus would test one error message over and over."""
    ends = {
        answer.error["message"] if answer.error else "ran"
        for answer in (agent("llm", "--model", path, "--prefill", 2, "--decode", 1) for path in MODELS)
    }
    assert "ran" in ends
    assert len(ends) > len(MODELS) // 2
