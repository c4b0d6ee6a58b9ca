"""The agent's subcommands: what they print (kernels/PROTOCOL.md) and how they refuse."""

import json
import os
import re
import resource
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

GOLDEN = Path(__file__).parents[1] / "golden"
MODEL = GOLDEN / "model.gguf"
TOKENS = GOLDEN / "model.tokens"
QUICK = ("--iterations", 2, "--min-ns", 0)


def keys(value: Any) -> Any:
    """The shape of a result: its keys, those of nested objects, one element of each list."""
    if isinstance(value, dict):
        return {name: keys(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [keys(value[0])] if value else []
    return None


@pytest.mark.parametrize(
    "command",
    [
        ("info",),
        ("spin", "--ms", 1),
        ("mm", "--case", "w4a8g128:256x256:1", *QUICK),
        ("peak", "--ms", 1),
        ("llm", "--model", MODEL, "--prefill", 4, "--decode", 2, "--iterations", 1),
        ("score", "--model", MODEL, "--tokens", TOKENS, "--window", 16, "--reference", GOLDEN / "model.reference"),
    ],
    ids=lambda command: command[0],
)
def test_result_lines_have_the_fields_of_the_golden_files(agent: Any, command: tuple[Any, ...]) -> None:
    golden = (GOLDEN / "protocol" / f"{command[0]}.jsonl").read_text(encoding="utf-8").splitlines()
    answer = agent(*command)
    assert answer.error is None
    assert keys(answer.results[0]) == keys(json.loads(golden[1]))


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ((), "usage", "info, spin, idle, mm, peak, llm, score or lease"),
        (("lmm",), "usage", "unknown subcommand 'lmm'"),
        (("info", "--rot", "x"), "usage", "unknown option '--rot'"),
        (("info", "--root"), "usage", "--root needs a value"),
        (("spin", "--ms", "0"), "usage", "from 1 to 60000"),
        (("spin", "--cpu", "1023"), "usage", "cpu 1023"),
        (("mm",), "usage", "--case SCHEME:NxK:M"),
        (("mm", "--case", "w9a8:8x32:1"), "usage", "w9a8:8x32:1"),
        (("mm", "--case", "w4a8g33:8x32:1"), "usage", "SCHEME"),
        (("mm", "--case", "w4a8:0x32:1"), "usage", "SCHEME"),
        (("mm", "--case", "w4a8:8x32:1:1"), "usage", "SCHEME"),
        (("mm", "--case", "w4a8:8x99999:1"), "usage", "K up to 65536"),
        (("mm", "--case", "w4a8:8x32:1", "--variant", "mm_w4a8_fastest"), "usage", "agent info"),
        (("mm", "--case", "w4a8:8x32:1", "--variant", "mm_w2a8_1x8x4_scalar"), "usage", "does not multiply w4a8"),
        (("mm", "--case", "w4a8:8x32:1", "--warm", "--cold"), "usage", "exclude"),
        (("mm", "--case", "w4a8:8x32:1", "--calls", "0"), "usage", "expected an integer"),
        (("mm", "--case", "w4a8:8x32:1", "--cpus", "0,0"), "usage", "distinct"),
        (("mm", "--case", "w4a8:8x32:1", "--cpus", "0-999999"), "usage", "CPU numbers"),
        (("mm", "--case", "w4a8:8x32:1", "--cpus", "0", "--threads", "2"), "usage", "2 threads on 1 cpus"),
        (("mm", "--case", "w4a8:8x32:1", "--footprint", 1 << 40), "memory", "MiB are available"),
        (("mm", "--case", "w4a8:8x32:1", "--pages", "large"), "usage", "expected one of base, huge"),
        (("peak", "--ms", "0"), "usage", "from 1 to 60000"),
        (("peak", "--watch", "/x"), "usage", "unknown option"),
        (("llm",), "usage", "--model"),
        (("llm", "--model", MODEL, "--prefill", "1e9"), "usage", "expected an integer"),
        (("llm", "--model", MODEL, "--prefill", "99999999999999999999"), "usage", "expected an integer"),
        (("llm", "--model", MODEL, "--prefill", "64"), "usage", "the model has 64"),
        (("llm", "--model", "/nonexistent/model.gguf"), "io", "No such file"),
        (("llm", "--model", "/"), "io", "not a regular file"),
        (("llm", "--model", "/dev/zero"), "io", "not a regular file"),
        (("llm", "--model", TOKENS), "model", "'GGUF'"),
        (("score", "--model", MODEL), "usage", "--tokens"),
        (("score", "--model", MODEL, "--tokens", TOKENS, "--window", "65"), "usage", "the model has 64 positions"),
        (("score", "--model", MODEL, "--tokens", TOKENS, "--window", "64"), "model", "less than one window"),
        (("score", "--model", MODEL, "--tokens", MODEL, "--window", "8"), "model", "'BTOK'"),
    ],
)  # fmt: skip
def test_a_wrong_command_line_gets_its_code_and_says_what_was_expected(
    agent: Any, words: tuple[Any, ...], code: str, said: str
) -> None:
    answer = agent(*words)
    assert answer.error is not None
    assert answer.error["code"] == code
    assert said in answer.error["message"]
    assert answer.results == []


WORDS = ["info", "spin", "idle", "mm", "peak", "llm", "score", "--model", "--tokens", "--window", "--case", "--cpus",
         "--threads", "--watch", "--watch-run", "--watch-cpu", "--ms", "--iterations", "--min-ns", "--calls",
         "--prefill", "--decode", "--warm", "--pages", "--root", "0", "1", "2", "-1", "1e9", "0-1", "", "w4a8:8x32:1",
         "fp16:9x7:2", "w2a8g64:::", "w4a8:8x", str(MODEL), str(TOKENS), "/"]  # fmt: skip


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(words=["\x85"]).via("a control character that ends a line for some readers")
@given(st.lists(st.one_of(st.sampled_from(WORDS), st.text(max_size=12)), max_size=8))
def test_no_command_line_crashes_the_agent_or_breaks_its_output(agent: Any, words: list[str]) -> None:
    agent(*(word.replace("\0", "") for word in words))


def test_bytes_that_are_no_utf8_come_back_as_valid_json(agent: Any) -> None:
    answer = agent("llm", "--model", os.fsdecode(b'\xff\xfe\xc3(\xed\xa0\x80\xb5\xb5\x01"\\'))
    assert answer.error is not None
    assert '???(?????\x01"\\: No such file' in answer.error["message"]


def test_nobody_reading_is_an_exit_status_and_no_signal(agent: Any) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as closed:
        assert subprocess.run([*agent.command, "info"], stdout=closed, check=False).returncode == 6


def limit(kind: int, amount: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(kind, (amount, amount))


@pytest.mark.parametrize("mib", [4, 8, 64])
def test_a_refused_allocation_is_an_error_line(agent: Any, mib: int) -> None:
    words = ("mm", "--case", "w8a8:4096x4096:64", "--threads", 4)
    answer = agent(*words, preexec_fn=limit(resource.RLIMIT_AS, mib << 20))
    assert answer.error is not None
    assert answer.error["code"] == "memory"


def test_a_model_larger_than_the_address_space_is_an_error_line(agent: Any, tmp_path: Path) -> None:
    with (tmp_path / "m").open("wb") as file:
        file.truncate(1 << 30)
    answer = agent("llm", "--model", tmp_path / "m", preexec_fn=limit(resource.RLIMIT_AS, 64 << 20))
    assert answer.error is not None
    assert answer.error["code"] == "memory"


def test_a_full_thread_table_is_an_error_line(agent: Any, public_folder: Path) -> None:
    """The limit does not bind root, so root asks as nobody, with a copy that nobody can reach."""
    run: dict[str, Any] = {"user": 65534, "group": 65534, "extra_groups": []} if os.getuid() == 0 else {}
    copy = type(agent)([shutil.copy(agent.command[0], public_folder)])
    answer = copy("mm", "--case", "w4a8:64x64:1", "--threads", 8, preexec_fn=limit(resource.RLIMIT_NPROC, 1), **run)
    assert answer.error is not None
    assert answer.error["code"] == "memory"


@pytest.fixture
def public_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


class TestInfo:
    def test_features_are_those_that_the_kernel_reports(self, agent: Any) -> None:
        info = agent("info").results[0]
        flags = set(re.findall(r"\S+", Path("/proc/cpuinfo").read_text(encoding="utf-8")))
        assert info["features"]
        for ours, kernels in {"avx2": "avx2", "fma": "fma", "f16c": "f16c", "avx512f": "avx512f"}.items():
            assert (ours in info["features"]) == (kernels in flags)

    def test_every_listed_variant_runs_and_is_reported(self, agent: Any) -> None:
        for name in agent("info").results[0]["variants"]:
            scheme = name.split("_")[1].replace("w16a16", "fp16")
            (result,) = agent("mm", "--case", f"{scheme}:24x96:5", "--variant", name, *QUICK).results
            assert (result["variant"], result["scheme"]) == (name, scheme)

    @pytest.mark.parametrize(
        ("cpu", "isas"),
        [("cortex-a72", {"neon", "scalar"}), ("cortex-a76", {"neon", "dotprod", "scalar"})],
    )
    def test_an_arm_cpu_offers_what_it_can_execute(self, arm_agent: Any, cpu: str, isas: set[str]) -> None:
        info = arm_agent(cpu)("info").results[0]
        assert info["arch"] == "aarch64"
        assert {name.rsplit("_", 1)[1] for name in info["variants"]} == isas
        assert ("dotprod" in info["features"]) == ("dotprod" in isas)

    def test_a_variant_that_the_cpu_lacks_is_unsupported(self, arm_agent: Any) -> None:
        answer = arm_agent("cortex-a72")("mm", "--case", "w4a8:8x32:1", "--variant", "mm_w4a8_1x8x4_dotprod")
        assert answer.error is not None
        assert answer.error["code"] == "unsupported"

    def test_a_phone_has_three_clusters_one_core_of_them_offline(self, agent: Any, tmp_path: Path) -> None:
        """Frequency domains, capacities and names as a Pixel 6 lays them out, with core 7 switched off."""
        write_phone(tmp_path)
        info = agent("info", "--root", tmp_path).results[0]
        assert info["cpu_model"] == "Cortex-A55 + Cortex-A76 + Cortex-X1"
        assert [cluster["cores"] for cluster in info["clusters"]] == [[0, 1, 2, 3], [4, 5], [6, 7]]
        assert [cluster["capacity"] for cluster in info["clusters"]] == [160, 498, 1024]
        assert [cluster["max_khz"] for cluster in info["clusters"]] == [1803000, 2253000, 2802000]
        assert info["cores"][7] == {
            "id": 7, "online": False, "capacity": None, "max_khz": None, "governor": None, "cluster": 2,
        }  # fmt: skip
        assert info["affinity"] == [0, 1, 2, 3, 4, 5, 6]
        assert info["kernel"] == "5.10.157-android13"
        assert info["memory"] == {"total_bytes": 7900000 * 1024, "available_bytes": 4100000 * 1024}
        assert info["caches"] == [{"level": 3, "type": "Unified", "bytes": 4 << 20, "cores": [0, 1, 2, 3, 4, 5, 6, 7]}]

    def test_a_machine_that_tells_nothing_gets_nulls(self, agent: Any, tmp_path: Path) -> None:
        info = agent("info", "--root", tmp_path).results[0]
        assert info["cpu_model"] == "unknown"
        assert info["caches"] == []
        assert {core["capacity"] for core in info["cores"]} == {None}
        assert info["cores"], "cores fall back to those that this process may use"


def write_phone(root: Path) -> None:
    """The part of /proc and /sys that `info` reads."""
    kinds = [
        (range(0, 4), 160, 1803000, "0xd05"),
        (range(4, 6), 498, 2253000, "0xd0b"),
        (range(6, 8), 1024, 2802000, "0xd44"),
    ]
    files = {
        "proc/sys/kernel/osrelease": "5.10.157-android13\n",
        "proc/self/status": "Name:\tagent\nCpus_allowed_list:\t0-6\n",
        "proc/meminfo": "MemTotal:        7900000 kB\nMemAvailable:    4100000 kB\n",
        "sys/devices/system/cpu/present": "0-7\n",
        "sys/devices/system/cpu/online": "0-6\n",
    }
    cpuinfo = ""
    for cores, capacity, khz, part in kinds:
        for core in cores:
            if core == 7:
                continue
            folder = f"sys/devices/system/cpu/cpu{core}/"
            files[folder + "cpu_capacity"] = f"{capacity}\n"
            files[folder + "cpufreq/related_cpus"] = " ".join(map(str, cores)) + "\n"
            files[folder + "cpufreq/cpuinfo_max_freq"] = f"{khz}\n"
            files[folder + "cpufreq/scaling_governor"] = "sched_pixel\n"
            for name, value in {"level": "3", "type": "Unified", "size": "4096K", "shared_cpu_list": "0-7"}.items():
                files[folder + f"cache/index3/{name}"] = value + "\n"
            cpuinfo += f"processor\t: {core}\nCPU implementer\t: 0x41\nCPU part\t: {part}\n\n"
    files["proc/cpuinfo"] = cpuinfo
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


class TestSpin:
    def test_the_clock_is_that_of_the_cpu_asked_for(self, agent: Any) -> None:
        cpu = max(os.sched_getaffinity(0))
        (spin,) = agent("spin", "--cpu", cpu, "--ms", 5).results
        assert spin["cpu"] == cpu
        assert spin["ns"] >= 5_000_000
        assert spin["mhz"] >= 1000 * spin["additions"] / spin["ns"] * 0.999


class TestMm:
    @pytest.mark.parametrize("activation", [8, 16])
    def test_every_width_is_timed_with_its_weight_bytes(self, agent: Any, activation: int) -> None:
        """Odd sizes: N and K are padded to 8 and 32; two groups, the last shorter."""
        schemes = [f"w{bits}a{activation}g64" for bits in range(2, 9)]
        words = [word for scheme in schemes for word in ("--case", f"{scheme}:13x90:3")]
        results = agent("mm", *words, *QUICK).results
        assert [result["scheme"] for result in results] == schemes
        for bits, result in zip(range(2, 9), results, strict=True):
            assert result["weight_bytes"] == 16 * 96 * bits // 8 + 2 * 16 * 2
            assert (result["n"], result["k"], result["m"]) == (13, 90, 3)
            assert len(result["ns"]) == 2

    def test_fp16_has_unpadded_weights(self, agent: Any) -> None:
        (result,) = agent("mm", "--case", "fp16:13x90:1", *QUICK).results
        assert result["weight_bytes"] == 13 * 90 * 2

    def test_the_footprint_is_what_was_asked_for(self, agent: Any) -> None:
        case = ("mm", "--case", "w4a8:64x64:1", *QUICK)
        caches = agent("info").results[0]["caches"]
        last = max((cache["level"], cache["bytes"]) for cache in caches)[1] if caches else 16 << 20
        assert agent(*case).results[0]["footprint_bytes"] == 2 * last
        assert agent(*case, "--footprint", 1 << 20).results[0]["footprint_bytes"] == 1 << 20
        assert agent(*case, "--warm").results[0]["footprint_bytes"] == 64 * 64 // 2 + 64 * 2

    def test_with_calls_a_batch_is_so_many_products(self, agent: Any) -> None:
        (timed,) = agent("mm", "--case", "w4a8:64x64:1", "--calls", 3, "--iterations", 2, "--warm").results
        assert (timed["calls"], len(timed["ns"])) == (3, 2)

    def test_threads_follow_the_list_of_cpus(self, agent: Any) -> None:
        cpus = sorted(os.sched_getaffinity(0))[:2]
        (result,) = agent("mm", "--case", "w4a8:256x64:2", "--cpus", ",".join(map(str, cpus)), *QUICK).results
        assert result["threads"] == len(cpus)

    def test_more_threads_than_rows_is_fine(self, agent: Any) -> None:
        (result,) = agent("mm", "--case", "w4a8:8x32:3", "--case", "fp16:1x1:1", "--threads", 8, *QUICK).results[:1]
        assert result["threads"] == 8

    def test_weights_are_in_huge_pages_when_asked_and_the_kernel_gives_them(self, agent: Any) -> None:
        case = ("mm", "--case", "w4a8:64x64:1", "--footprint", 8 << 20, *QUICK)
        base, huge = (agent(*case, "--pages", pages).results[0] for pages in ("base", "huge"))
        assert (base["pages"], huge["pages"]) == ("base", "huge")
        if "never" in huge_pages_setting() or huge["huge_share"] is None:
            pytest.skip("this kernel has no transparent huge pages")
        assert base["huge_share"] == 0
        assert huge["huge_share"] > 0.5


def huge_pages_setting() -> str:
    """`always`, `madvise` or `never`."""
    setting = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    found = re.search(r"\[(\w+)\]", setting.read_text(encoding="utf-8")) if setting.exists() else None
    return found[1] if found else "never"


def rate(line: dict[str, Any]) -> float:
    """10^9 operations or bytes a second of the fastest piece."""
    return float(line["work"] / min(line["ns"]))


@pytest.fixture(scope="module")
def lines(agent: Any) -> list[dict[str, Any]]:
    """What `agent peak` found on this machine."""
    return list(agent("peak", "--ms", 200).results)


class TestPeak:
    def test_every_instruction_set_that_runs_here_is_measured_and_no_other(self, agent: Any, lines: Any) -> None:
        features = set(agent("info").results[0]["features"])
        needs = {"avx2": {"avx2", "fma"}, "avxvnni": {"avxvnni"}, "avx512vnni": {"avx512vnni", "avx512bw"}}
        assert {line["isa"] for line in lines if line["what"] == "int8"} == {
            isa for isa, needed in needs.items() if needed <= features
        }

    def test_memory_is_read_from_both_kinds_of_pages_and_a_cache_is_faster(self, lines: Any) -> None:
        reads = {(line["level"], line["pages"]): rate(line) for line in lines if line["what"] == "read"}
        assert {("memory", "base"), ("memory", "huge")} <= set(reads)
        if ("L1", "huge") in reads:
            assert reads["L1", "huge"] > max(reads["memory", "base"], reads["memory", "huge"])

    def test_no_loop_beats_what_the_clock_allows(self, agent: Any, lines: Any) -> None:
        """Else the compiler left some of it out: no core does more than 4 vector multiplications a cycle."""
        ghz = max(agent("spin", "--ms", 20).results[0]["mhz"] for _ in range(3)) / 1e3
        lanes = {("int8", "avx2"): 64, ("int8", "avxvnni"): 64, ("int8", "avx512vnni"): 128,
                 ("fp32", "avx2"): 16, ("fp32", "avx512vnni"): 32}  # fmt: skip
        for line in lines:
            if line["what"] != "read":
                assert 0 < rate(line) < 4 * 1.5 * ghz * lanes[line["what"], line["isa"]], line["loop"]

    @pytest.mark.parametrize(
        ("cpu", "isas"),
        [("cortex-a72", {"neon"}), ("cortex-a76", {"neon", "dotprod"}), ("max", {"neon", "dotprod", "i8mm"})],
    )
    def test_an_arm_cpu_is_asked_for_what_it_has(self, arm_agent: Any, cpu: str, isas: set[str]) -> None:
        results = arm_agent(cpu)("peak", "--ms", 1).results
        assert {line["isa"] for line in results} == isas
