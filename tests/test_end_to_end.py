"""The whole path: a small random model is measured, allocated, deployed, measured again and reported.

Real agent, real database, and three devices at once: this machine, a board behind a real sshd, and an address where
nobody answers. Numbers that depend on the machine are never asserted.
"""

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from devices import Device
from devices.transport.connection import enrol_host_key

ROOT = Path(__file__).parents[1]
LAYERS = 14
GONE = "nobody@127.0.0.1:1"
SUITE = """
recipes: [rtn]
devices: [local, board, "nobody@127.0.0.1:1"]
uniform: [w8a8, w4a8g128]
candidates: [w8a8, w4a8g128, w2a8g128]
budgets: [decode_ms=100%, bytes=100%]
window: 16
windows: 6
sensitivity_windows: 2
calibration_windows: 2
launches: 2
max_launches: 2
iterations: 2
prefill: 8
decode: 4
rounds: 2
"""


@dataclass(frozen=True)
class Ended:
    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Bench = Callable[..., Ended]


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LLaMA of two small blocks with random weights, and the shipped tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from quantizers.models import DEFAULT_MODEL

    folder = tmp_path_factory.mktemp("model") / "tiny"
    vocabulary = json.loads((DEFAULT_MODEL / "config.json").read_text())["vocab_size"]
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
        tie_word_embeddings=True,
        # Large enough that quantization moves the logits.
        initializer_range=0.2,
    )
    LlamaForCausalLM(config).half().save_pretrained(folder)
    for path in DEFAULT_MODEL.glob("tokenizer*"):
        shutil.copy(path, folder / path.name)
    return folder


@pytest.fixture(scope="session")
def board(tmp_path_factory: pytest.TempPathFactory, start_sshd: Callable[..., Any]) -> Iterator[Device]:
    """A device that is reached over ssh, its host key enrolled."""
    server = start_sshd(tmp_path_factory.mktemp("board"))
    enrol_host_key(server.device)
    yield server.device
    server.stop()


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory, model: Path, board: Device) -> Path:
    folder = tmp_path_factory.mktemp("workplace")
    write_inventory(folder / "inventory.yaml", board)
    (folder / "suite.yaml").write_text(f"models: [{json.dumps(str(model))}]\n{SUITE}")
    return folder


def write_inventory(path: Path, board: Device) -> None:
    names = ("host", "port", "user", "identity_file", "known_hosts", "root")
    entry = {name: str(value) if isinstance(value := getattr(board, name), Path) else value for name in names}
    inventory = {"version": 1, "devices": {"board": {"family": "linux", "transport": "ssh"} | entry}}
    path.write_text(json.dumps(inventory))


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """One thread for torch: these models are too small for more."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="session")
def bench(workplace: Path, environment: dict[str, str]) -> Bench:
    def run(*words: str) -> Ended:
        argv = [sys.executable, "-m", "harness.cli", *words]
        done = subprocess.run(argv, cwd=workplace, env=environment, capture_output=True, text=True, timeout=900)
        return Ended(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture(scope="session")
def finished(bench: Bench) -> Any:
    """The JSON of one complete run."""
    ended = bench("run", "suite.yaml", "--json")
    assert ended.status == 3, ended.err
    return ended.json[0]


def by_label(finished: Any, device: str = "local") -> dict[str, Any]:
    return {row["label"]: row for row in finished["models"][device]}


def test_a_device_that_vanishes_leaves_the_others(finished: Any) -> None:
    assert list(finished["failures"]) == [GONE]
    assert sorted(finished["models"]) == ["board", "local"]


def test_a_device_over_ssh_computes_what_this_machine_does(finished: Any) -> None:
    """Same binary, same files, same processor: every uniform model has the same perplexity to the last bit."""
    local, board = (
        {row["label"]: row["perplexity"] for row in finished["models"][name]} for name in ("local", "board")
    )
    uniform = {"fp16", "w8a8", "w4a8g128"}
    assert {label: board[label] for label in uniform} == {label: local[label] for label in uniform}


def test_a_device_over_ssh_keeps_what_was_deployed_in_its_own_folder(finished: Any, board: Device) -> None:
    assert list(Path(board.root, "artifacts").iterdir())


def test_uniform_and_allocated_models_are_deployed_timed_and_scored(finished: Any) -> None:
    models = by_label(finished)
    assert set(models) >= {"fp16", "w8a8", "w4a8g128", "allocated"}
    for row in models.values():
        assert row["decode_ms"] > 0
        assert row["prefill_ms"] > 0
        assert row["perplexity"] > 1
        assert row["predicted_decode_ms"] > 0


def test_the_device_agrees_with_the_host_about_the_baseline(finished: Any) -> None:
    """KL to the reference that torch computed in float32 is rounding only; W8 is nearer to it than W4."""
    models = by_label(finished)
    assert models["fp16"]["kl_mean"] < 1e-3
    assert models["fp16"]["kl_mean"] < models["w8a8"]["kl_mean"] < models["w4a8g128"]["kl_mean"]


def test_the_allocated_model_keeps_its_budget_of_bytes(finished: Any) -> None:
    models = by_label(finished)
    assert models["allocated"]["bytes"] <= models["w4a8g128"]["bytes"]


def test_the_page_stands_alone(finished: Any, workplace: Path) -> None:
    page = (workplace / finished["pages"]["local"]).read_text(encoding="utf-8")
    assert page.startswith("<!")
    assert finished["run_id"] in page


def test_resuming_a_run_measures_nothing_again(finished: Any, bench: Bench, workplace: Path) -> None:
    before = launches(workplace / "site")
    ended = bench("resume", finished["run_id"], "--json")
    assert ended.status == 3, ended.err
    # The device that is not there is asked again, and fails again.
    assert launches(workplace / "site") == before


def launches(out: Path) -> int:
    """Launches that answered."""
    with sqlite3.connect(out / "results.sqlite") as database:
        return int(database.execute("SELECT count(*) FROM launches WHERE error IS NULL").fetchone()[0])


def test_a_run_does_not_differ_from_itself(finished: Any, bench: Bench) -> None:
    ended = bench("compare", finished["run_id"], finished["run_id"], "--json")
    assert ended.status == 0, ended.err
    assert {one["ratio"] for one in ended.json["differences"]} == {1.0}


def test_another_budget_needs_no_device(finished: Any, bench: Bench, workplace: Path) -> None:
    ended = bench("allocate", finished["run_id"], "--budget", "bytes=99%:w8a8", "--to", "a.json", "--json")
    assert ended.status == 0, ended.err
    assert ended.json["predicted"]["bytes"] <= ended.json["budgets"]["bytes"]
    assert sum(len(group["layers"]) for group in ended.json["groups"]) == LAYERS
    assert json.loads((workplace / "a.json").read_text()) == ended.json


def test_products_timed_later_can_take_the_place_of_those_of_the_run(finished: Any, bench: Bench) -> None:
    words = ["--shape", "256x128", "--m", "1", "--m", "8", "--scheme", "w4a8g128", "--launches", "1"]
    slow = costs_of(bench("kernels", *words, "--variant", "mm_w4a8_1x8x4_scalar"))
    before = bench("allocate", finished["run_id"], "--json")
    after = bench("allocate", finished["run_id"], "--costs", slow, "--json")
    assert after.status == 0, after.err
    assert after.json["predicted"] != before.json["predicted"]


def test_products_of_other_shapes_or_of_no_run_are_exit_2(finished: Any, bench: Bench) -> None:
    other = costs_of(bench("kernels", "w4a8g128:8x32:1", "--launches", "1"))
    ended = bench("allocate", finished["run_id"], "--costs", other)
    assert ended.status == 2
    assert "no product of this model with 1 threads: " in ended.err
    assert bench("allocate", finished["run_id"], "--costs", "none").status == 2


def costs_of(ended: Ended) -> str:
    """The run that `bench kernels` says it stored."""
    assert ended.status == 0, ended.err
    found = re.search(r"allocate --costs (\S+)`", ended.err)
    assert found, ended.err
    return found[1]


def test_a_budget_out_of_reach_is_exit_5_with_what_could_be_had(finished: Any, bench: Bench) -> None:
    ended = bench("allocate", finished["run_id"], "--budget", "bytes=1kB")
    assert ended.status == 5
    assert "bytes at most 1000 cannot be met" in ended.err


def test_a_budget_in_terms_of_what_was_not_measured_is_exit_2_with_what_was(finished: Any, bench: Bench) -> None:
    ended = bench("allocate", finished["run_id"], "--budget", "bytes=90%:w6a8")
    assert ended.status == 2
    assert "did not measure w6a8; it has fp16, w8a8, w4a8g128" in ended.err


def test_an_allocation_can_be_quantized_by_itself(finished: Any, bench: Bench, model: Path, workplace: Path) -> None:
    bench("allocate", finished["run_id"], "--to", "plan.json")
    ended = bench("quantize", str(model), "--recipe", "rtn", "--plan", "plan.json", "--json")
    assert ended.status == 0, ended.err
    assert (workplace / "model.gguf").stat().st_size == ended.json["exports"]["gguf"]["bytes"]


def test_pages_are_written_again_from_the_database(finished: Any, bench: Bench, workplace: Path) -> None:
    page = workplace / finished["pages"]["local"]
    content = page.read_bytes()
    page.unlink()
    assert bench("report", finished["run_id"]).status == 0
    assert page.read_bytes() == content


def test_kernels_are_timed_by_themselves(bench: Bench) -> None:
    ended = bench("kernels", "w4a8g128:64x128:1", "fp16:64x128:1", "--launches", "2", "--json", "--out", "kernels")
    assert ended.status == 0, ended.err
    assert sorted(one["scheme"] for one in ended.json) == ["fp16", "w4a8g128"]


def test_models_run_for_long_after_all_else_and_one_at_a_time(finished: Any, bench: Bench, workplace: Path) -> None:
    """Two seconds of each model that stands, each in a session of its own; resuming asks none of it again."""
    suite = (workplace / "suite.yaml").read_text().replace(f', board, "{GONE}"', "").replace("rounds: 2", "rounds: 1")
    (workplace / "sustained.yaml").write_text(suite + "sustained_s: 2\n")
    ended = bench("run", "sustained.yaml", "--json", "--out", "sustained")
    assert ended.status == 0, ended.err
    out = workplace / "sustained"
    with sqlite3.connect(out / "results.sqlite") as database:
        asked = "SELECT coalesce(json_extract(params, '$.sustained'), 0) FROM launches JOIN jobs USING (job_key)"
        long = [row[0] for row in database.execute(f"{asked} WHERE probe = 'llm' ORDER BY launches.id")]
        (sessions,) = database.execute("SELECT count(*) FROM sessions").fetchone()
    models = len(ended.json[0]["models"]["local"])
    # What was allocated may be the file of a uniform model.
    assert long == sorted(long) and sum(long) in (models, models - 1)
    # Operators, uniform models, the round with what was allocated; then each model by itself.
    assert sessions == 3 + sum(long)
    before = launches(out)
    assert bench("resume", ended.json[0]["run_id"], "--out", "sustained").status == 0
    assert launches(out) == before
    (page,) = ended.json[0]["pages"].values()
    assert 'data-figure="sustained"' in (workplace / page).read_text(encoding="utf-8")


def test_an_interrupted_run_is_resumed_where_it_stopped(
    finished: Any, bench: Bench, workplace: Path, environment: dict[str, str]
) -> None:
    """Depends on `finished` for the cached host work, so that the signal comes while the device measures."""
    suite = (
        (workplace / "suite.yaml").read_text().replace(f', board, "{GONE}"', "").replace("launches: 2", "launches: 4")
    )
    (workplace / "long.yaml").write_text(suite.replace("launches: 2", "launches: 4"))
    argv = [sys.executable, "-m", "harness.cli", "run", "long.yaml", "--out", "interrupted"]
    with subprocess.Popen(argv, cwd=workplace, env=environment, stderr=subprocess.PIPE, text=True) as process:
        wait_until(lambda: answered(workplace / "interrupted") >= 3)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "bench resume" in err
    before = launches(workplace / "interrupted")
    ended = bench("resume", "--out", "interrupted", "--json")
    assert ended.status == 0, ended.err
    assert ended.json[0]["state"] == "finished"
    assert launches(workplace / "interrupted") > before
    assert repeated(workplace / "interrupted") == 0


def test_a_device_that_vanishes_in_the_middle_keeps_what_it_measured(
    finished: Any, workplace: Path, environment: dict[str, str], start_sshd: Callable[..., Any], tmp_path: Path
) -> None:
    """Its remaining jobs are stored as infrastructure errors, and this machine goes all the way."""
    server = start_sshd(tmp_path)
    enrol_host_key(server.device)
    write_inventory(tmp_path / "inventory.yaml", server.device)
    suite = (workplace / "suite.yaml").read_text().replace(f', "{GONE}"', "").replace("launches: 2", "launches: 4")
    (tmp_path / "suite.yaml").write_text(suite)
    argv = [sys.executable, "-m", "harness.cli", "run", "suite.yaml", "--json"]
    with subprocess.Popen(argv, cwd=tmp_path, env=environment, stdout=-1, stderr=-1, text=True) as process:
        wait_until(lambda: answered(tmp_path / "site", "board") >= 3)
        server.cut()
        out, err = process.communicate(timeout=300)
    assert process.returncode == 3, err
    (run,) = json.loads(out)
    assert list(run["failures"]) == ["board"]
    assert "allocated" in by_label(run)
    assert answered(tmp_path / "site", "board") >= 3
    assert broken(tmp_path / "site", "board")


def wait_until(condition: Callable[[], bool], timeout_s: float = 300.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "nothing was measured"
        time.sleep(0.05)


NOT_GOLDEN = "json_extract(params, '$.golden') IS NULL"
"""The golden kernel is asked again and again, and by nobody's wish."""
MM_OF = f"""FROM launches JOIN jobs USING (job_key)
            WHERE probe = 'mm' AND json_extract(device, '$.name') = ? AND {NOT_GOLDEN}"""


def answered(out: Path, device: str = "local") -> int:
    """Launches of timed products."""
    try:
        with sqlite3.connect(f"file:{out / 'results.sqlite'}?mode=ro", uri=True) as database:
            return int(database.execute(f"SELECT count(*) {MM_OF} AND error IS NULL", (device,)).fetchone()[0])
    except sqlite3.OperationalError:
        return 0


def broken(out: Path, device: str) -> bool:
    """Whether launches failed, all of them by the fault of the infrastructure."""
    with sqlite3.connect(out / "results.sqlite") as database:
        errors = [row[0] for row in database.execute(f"SELECT error {MM_OF} AND error IS NOT NULL", (device,))]
    return bool(errors) and all(error.startswith("infrastructure: ") for error in errors)


def repeated(out: Path) -> int:
    """Jobs with more answers than they wanted."""
    query = f"""SELECT count(*) FROM (SELECT job_key FROM launches JOIN jobs USING (job_key)
               WHERE error IS NULL AND {NOT_GOLDEN} GROUP BY job_key HAVING count(*) > jobs.launches)"""
    with sqlite3.connect(out / "results.sqlite") as database:
        return int(database.execute(query).fetchone()[0])


@pytest.mark.parametrize(
    ("damage", "status", "complaint"),
    [
        ("no tokenizer", 2, "tokenizer"),
        ("other architecture", 5, "architecture"),
        ("NaN weights", 2, "NaN"),
        ("no folder", 2, "no model folder"),
    ],
)
def test_a_bad_model_is_refused_before_any_device_is_touched(
    damage: str, status: int, complaint: str, model: Path, tmp_path: Path, bench: Bench
) -> None:
    folder = tmp_path / "model"
    if damage != "no folder":
        shutil.copytree(model, folder)
        break_model(folder, damage)
    ended = bench("--model", str(folder), "--out", str(tmp_path / "site"))
    assert ended.status == status, ended.err
    assert complaint.lower() in ended.err.lower()
    assert "Traceback" not in ended.err
    assert not (tmp_path / "site").exists()


def break_model(folder: Path, damage: str) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    if damage == "no tokenizer":
        for path in folder.glob("tokenizer*"):
            path.unlink()
    elif damage == "other architecture":
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | {"architectures": ["GPT2LMHeadModel"]}))
    else:
        tensors = load_file(folder / "model.safetensors")
        tensors["model.layers.1.mlp.up_proj.weight"][3, 4] = torch.nan
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})
