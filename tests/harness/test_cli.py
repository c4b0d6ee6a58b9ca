"""harness/cli: words, exit statuses, JSON and start-up of `bench`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from harness import errors
from harness.cli import main
from harness.cli.status import explain

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "transformers", "pandas", "plotly", "scipy", "fabric", "paramiko", "sqlalchemy", "numpy")
COMMANDS = (
    "run",
    "resume",
    "devices",
    "doctor",
    "trust",
    "health",
    "build",
    "quantize",
    "kernels",
    "allocate",
    "recipes",
    "compare",
    "trend",
    "aa",
    "verify",
    "simulate",
    "report",
)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test writes into the checkout or reads its inventory."""
    monkeypatch.chdir(tmp_path)


def bench(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(words)
    return int(ended.value.code or 0)


def test_what_c_libraries_print_stays_out_of_standard_output() -> None:
    script = """
import os
from harness.cli import output
output.own_stdout()
os.write(1, b"chatter")
output.emit({"answer": 42}, True)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {"answer": 42}
    assert done.stderr == "chatter"


@pytest.mark.parametrize("command", ["--help", "devices"])
def test_start_up_loads_no_heavy_package(command: str) -> None:
    script = f"""
import sys
from harness.cli import main
try:
    main([{command!r}])
except SystemExit as ended:
    assert not ended.code, ended.code
print(*(name for name in {HEAVY!r} if name in sys.modules), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.split()) == (0, [])


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_and_json(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench(command, "--help") == 0
    assert "--json" in capsys.readouterr().out


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_has_more_options_than_a_screen_shows(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    bench(command, "--help")
    assert capsys.readouterr().out.count("\n  -") <= 18


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["devces"], "devices"),
        (["--device", "locl"], "local"),
        (["--device", "locl", "--dry-run"], "local"),
        (["--recipe", "gptk"], "gptq"),
        (["--budget", "decode=1"], "decode_ms"),
        (["--budget", "bytes=1Mb"], "MB"),
        (["--lanches", "3"], "--launches"),
        (["devices", "--device", "locl"], "local"),
        (["doctor", "--device", "tag:edge"], "tag"),
        (["health", "locl"], "local"),
        (["health", "local", "--set", "god"], "good"),
        (["health", "local", "--set", "unknown"], "quarantined"),
        (["health", "locl", "--set", "good"], "local"),
        (["health", "local", "--set", "good"], "site/results.sqlite"),
        (["health", "--set", "good"], "DEVICE"),
        (["health", "local", "--reason", "fan"], "--set"),
        (["build", "x86_64-linx"], "x86_64-linux"),
        (["quantize", "--scheme", "w4a8g12"], "w4a8g128"),
        (["kernels", "w4a8g128:4096"], "SCHEME:NxK:M"),
        (["kernels", "w4a8g12:64x64:1"], "w4a8g128"),
        (["kernels", "--shape", "4096"], "SCHEME:NxK:M"),
        (["kernels", "--bits", "2,9"], "no weights of 9 bits"),
        (["kernels", "--peers", "--energy"], "exclude each other"),
        (["kernels", "--peers", "--device", "me@pi5"], "this machine only"),
        (["models", "w4a8g12"], "w4a8g128"),
        (["models", "--shape", "tinylama"], "tinyllama-1.1b"),
        (["models", "--pages", "large"], "base or huge"),
        (["models", "--prefill", "2000"], "2048 positions"),
        (["models", "--peers", "--device", "me@pi5"], "this machine only"),
        (["--json", "devices"], "devices --json"),
        (["run", "none.yaml"], "none.yaml"),
        (["report", "last"], "site/results.sqlite"),
        (["resume"], "bench"),
        (["compare", "a"], "two models"),
        (["compare", "last"], "site/results.sqlite"),
        (["compare", "w4a8g12", "w8a8"], "w4a8g128"),
        (["compare", "w4a8g128", "none.gguf"], "none.gguf"),
        (["verify"], "site/results.sqlite"),
        (["aa", "locl"], "local"),
        (["aa", "--disturb", "drifd"], "drift"),
        (["allocate"], "site/results.sqlite"),
        (["devices", "--inventory", "none.yaml"], "none.yaml"),
    ],
)
def test_a_mistake_is_exit_2_with_a_hint_and_no_traceback(
    words: list[str], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench(*words) == 2
    printed = capsys.readouterr()
    assert hint in printed.err
    assert "Traceback" not in printed.err
    assert not Path("site").exists()


def test_a_misspelt_key_of_a_suite_is_exit_2(capsys: pytest.CaptureFixture[str]) -> None:
    Path("suite.yaml").write_text("launchs: 3\n")
    assert bench("run", "suite.yaml", "--dry-run") == 2
    assert "did you mean launches" in capsys.readouterr().err


def test_an_error_is_json_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("quantize", "--scheme", "w4", "--json") == 2
    printed = json.loads(capsys.readouterr().out)
    assert printed["exit_code"] == 2
    assert "is no scheme" in printed["error"]


def test_devices_as_json_name_address_and_facts(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("devices", "--json") == 0
    (local,) = json.loads(capsys.readouterr().out)
    assert (local["name"], local["reachable"], local["error"]) == ("local", True, None)
    assert local["facts"]["cores"]


def test_a_device_asked_by_name_that_does_not_answer_is_listed_and_exit_3(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("devices", "--device", "nobody@127.0.0.1:1", "--json") == 3
    (device,) = json.loads(capsys.readouterr().out)
    assert not device["reachable"]
    assert device["error"]


def test_a_dry_run_estimates_and_touches_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("--dry-run", "--json", "--device", "nobody@127.0.0.1:1") == 0
    planned = json.loads(capsys.readouterr().out)
    assert planned["devices"] == ["nobody@127.0.0.1:1"]
    assert planned["seconds"] == pytest.approx(sum(step["seconds"] for step in planned["steps"]))
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    "words",
    [
        ["build", "--dry-run"],
        ["quantize", "--dry-run"],
        ["kernels", "--dry-run"],
        ["kernels", "--dry-run", "--peers", "--bits", "4", "--shape", "64x64", "--m", "1"],
        ["models", "--dry-run", "--peers"],
        ["devices", "--dry-run"],
        ["doctor", "--dry-run"],
    ],
)
def test_dry_runs_of_single_steps_print_json_and_write_nothing(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench(*words, "--json") == 0
    assert json.loads(capsys.readouterr().out)
    assert list(Path().iterdir()) == []


def test_every_foreseen_error_has_the_status_of_its_kind() -> None:
    from devices import errors as devices_errors
    from quantizers import errors as quantizers_errors

    expected = {
        errors.UsageError("x"): 2,
        errors.InfrastructureError("x"): 3,
        errors.InvalidMeasurement("x"): 4,
        errors.UnsupportedError("x"): 5,
        errors.Interrupted("x"): 130,
        devices_errors.InventoryError("x"): 2,
        devices_errors.UnreachableError("x"): 3,
        devices_errors.HostKeyError("x"): 3,
        devices_errors.ConnectionLost("x"): 3,
        quantizers_errors.InvalidModelError("x"): 2,
        quantizers_errors.RecipeError("x"): 2,
        quantizers_errors.UnsupportedModelError("x"): 5,
    }
    assert {type(error): explain(error)[0] for error in expected} == {type(e): s for e, s in expected.items()}


def test_a_bug_keeps_its_traceback() -> None:
    assert explain(KeyError("x"))[0] is None
