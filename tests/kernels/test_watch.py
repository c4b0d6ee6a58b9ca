"""The agent's watch: sensors read beside the work, marks of the work, and `idle` (kernels/PROTOCOL.md)."""

import json
import os
import re
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

GOLDEN = Path(__file__).parents[1] / "golden"
MODEL = ("--model", GOLDEN / "model.gguf")
LLM = ("llm", *MODEL, "--prefill", 4, "--decode", 2, "--iterations", 2)
MM = ("mm", "--case", "w4a8:64x64:1", "--iterations", 2, "--min-ns", 0)
SCORE = ("score", *MODEL, "--tokens", GOLDEN / "model.tokens", "--window", 16)
IDLE = ("idle", "--ms", 20)
ALLOWED = sorted(os.sched_getaffinity(0))
SECONDS = 20
"""What anything may take on a busy machine."""

MS = 1_000_000

needs_two_cpus = pytest.mark.skipif(len(ALLOWED) < 2, reason="this process may use one CPU only")


def words(option: str, *values: object) -> list[object]:
    return [word for value in values for word in (option, value)]


def of_type(answer: Any, kind: str) -> list[dict[str, Any]]:
    return [line for line in answer.results if line["type"] == kind]


def columns(answer: Any) -> dict[str, Any]:
    """All samples lines as one, after a look at what each promises."""
    (watch,) = of_type(answer, "watch")
    begin: list[int] = []
    end: list[int] = []
    text: list[str | None] = []
    values: list[list[int | None]] = [[] for _ in range(watch["paths"])]
    for line in of_type(answer, "samples"):
        assert len(line["values"]) == watch["paths"]
        assert 1 <= len(line["begin_ns"]) <= 500
        assert {len(column) for column in (line["end_ns"], *line["values"])} <= {len(line["begin_ns"])}
        begin += line["begin_ns"]
        end += line["end_ns"]
        text += line.get("text", [])
        for column, more in zip(values, line["values"], strict=True):
            column += more
    assert len(begin) == watch["samples"]
    stamps = [stamp for pair in zip(begin, end, strict=True) for stamp in pair]
    assert stamps == sorted(stamps)
    return {"begin_ns": begin, "end_ns": end, "values": values, "text": text}


def wait_until(claim: Callable[[], object]) -> None:
    end = time.monotonic() + SECONDS
    while not claim():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


@pytest.fixture
def start(agent: Any) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts the agent and leaves it running."""
    running: list[subprocess.Popen[bytes]] = []

    def run(*command: object, **options: Any) -> subprocess.Popen[bytes]:
        process = subprocess.Popen([*agent.command, *map(str, command)], stdout=subprocess.PIPE, **options)
        running.append(process)
        return process

    yield run
    for process in running:
        process.kill()
        process.communicate()


class TestValues:
    NUMBERS = (
        ("5\n", 5),
        ("-7", -7),
        ("+8", 8),
        (" \t12 34\n", 12),
        ("7\0garbage", 7),
        ("0x50005\n", 0x50005),
        ("0XfF", 255),
        ("-0x10", -16),
        ("9223372036854775807\n", 2**63 - 1),
        ("-9223372036854775808\n", -(2**63)),
        ("12 " + "x" * 5000, 12),
        ("9223372036854775808", None),
        ("-9223372036854775809", None),
        ("0x8000000000000000", None),
        ("4a000", None),
        ("12.5", None),
        ("0x", None),
        ("-", None),
        ("+-1", None),
        ("", None),
        ("\n", None),
        ("Not charging\n", None),
        (" " * 60 + "123456", None),
        ("0" * 80 + "1", None),
    )

    def test_a_value_is_the_first_word_of_its_file_as_an_integer_or_null(self, agent: Any, tmp_path: Path) -> None:
        paths = [tmp_path / str(i) for i in range(len(self.NUMBERS))]
        for path, (text, _) in zip(paths, self.NUMBERS, strict=True):
            path.write_text(text)
        seen = columns(agent("idle", "--ms", 1, *words("--watch", *paths)))["values"]
        assert [column[0] for column in seen] == [value for _, value in self.NUMBERS]

    @settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.lists(st.text("0123456789abcdefxX+-. \n\0", max_size=24), min_size=64, max_size=64))
    def test_any_text_is_read_by_the_same_rule(self, agent: Any, texts: list[str]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            paths = [Path(folder) / str(i) for i in range(len(texts))]
            for path, text in zip(paths, texts, strict=True):
                path.write_text(text)
            seen = columns(agent("idle", "--ms", 1, *words("--watch", *paths)))["values"]
        assert [column[0] for column in seen] == [first_integer(text) for text in texts]

    def test_what_is_no_readable_file_is_null_and_never_waits(self, agent: Any, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "fifo")
        good = tmp_path / "good"
        good.write_text("1")
        bad = (tmp_path / "missing", tmp_path, tmp_path / "fifo", "/dev/tty", "/" + "x" * 5000)
        answer = agent(*IDLE, *words("--watch", *bad, good))
        assert answer.error is None
        assert [set(column) for column in columns(answer)["values"]] == [{None}] * len(bad) + [{1}]

    def test_a_file_that_changes_is_seen_to_change_in_its_order(self, agent: Any, tmp_path: Path) -> None:
        """What each sample runs after it has read the file writes the next number there."""
        path = tmp_path / "power"
        path.write_text("0\n")
        count = words("--watch-run", "sh", "-c", f"read n < {path}; echo $((n + 1)) > {path}")
        seen = columns(agent(*LLM, "--prefill", 32, "--min-ms", 100, "--watch", path, *count))["values"][0]
        assert len(seen) >= 3
        assert seen == list(range(len(seen)))

    @pytest.mark.parametrize("before", ["nothing", "a folder"])
    def test_a_file_that_fails_is_opened_again(self, agent: Any, tmp_path: Path, before: str) -> None:
        path = tmp_path / "later"
        if before == "a folder":
            path.mkdir()
        mend = words("--watch-run", "sh", "-c", f"test -d {path} && rmdir {path}; echo 5 > {path}")
        seen = columns(agent(*IDLE, "--watch", path, *mend))["values"][0]
        assert seen == [None] + [5] * (len(seen) - 1)


def first_integer(text: str) -> int | None:
    word = (re.split(r"[ \n\0]+", text.lstrip(" \n\0")) or [""])[0]
    if not re.fullmatch(r"[+-]?(0[xX][0-9a-fA-F]+|[0-9]+)", word):
        return None
    number = int(word, 16 if "x" in word.lower() else 10)
    return number if -(2**63) <= number < 2**63 else None


class TestTime:
    @pytest.mark.parametrize("command", [LLM, MM, IDLE], ids=lambda command: command[0])
    def test_the_first_sample_comes_before_the_work_and_the_last_after_it(self, agent: Any, command: Any) -> None:
        answer = agent(*command, "--watch", "/proc/sys/kernel/pid_max", "--watch-period-ns", 10_000 * MS)
        seen = columns(answer)
        for line in of_type(answer, command[0]):
            assert seen["end_ns"][0] <= line["begin_ns"] <= line["end_ns"] <= seen["begin_ns"][-1]
        assert len(seen["begin_ns"]) == 2, "a long period does not make the end wait"

    def test_the_period_is_dithered_and_right_on_average(self, agent: Any) -> None:
        period = 50 * MS
        answer = agent("idle", "--ms", 1500, "--watch", "/proc/sys/kernel/pid_max", "--watch-period-ns", period)
        stamps = columns(answer)["begin_ns"][:-1]
        gaps = [after - before for before, after in pairwise(stamps)]
        assert len(gaps) <= 1500 / (0.9 * 50) + 1
        assert 0.8 * period < median(gaps) < 1.6 * period
        assert max(gaps) - min(gaps) > 0.05 * period
        assert of_type(answer, "watch")[0]["period_ns"] == period

    def test_the_thread_says_what_it_costs(self, agent: Any) -> None:
        (watch,) = of_type(agent("idle", "--ms", 200, "--watch", "/proc/sys/kernel/pid_max"), "watch")
        assert 0 < watch["cpu_ns"] < 200 * MS


class TestPlace:
    def where(self, process: subprocess.Popen[bytes]) -> list[set[int]]:
        """Affinity of each thread, the main thread first."""
        threads = sorted(int(task.name) for task in Path(f"/proc/{process.pid}/task").iterdir())
        return [os.sched_getaffinity(thread) for thread in threads]

    @needs_two_cpus
    @pytest.mark.parametrize(
        "command",
        [
            (*LLM, "--prefill", 32, "--decode", 16, "--min-ms", 3000),
            (*MM, "--min-ns", MS, "--min-ms", 3000),
            (*SCORE, "--min-ms", 3000),
            ("idle", "--ms", 3000),
        ],
        ids=lambda command: command[0],
    )
    @pytest.mark.parametrize("work", [ALLOWED[0], ALLOWED[-1]], ids=["lowest", "highest"])
    def test_the_thread_keeps_clear_of_the_work(self, start: Any, command: Any, work: int) -> None:
        process = start(*command, "--cpus", work, "--watch", "/proc/sys/kernel/pid_max")
        spare = max(cpu for cpu in ALLOWED if cpu != work)
        wait_until(lambda: self.where(process) == [{work}, {spare}])

    @needs_two_cpus
    def test_it_says_where_it_ran(self, agent: Any) -> None:
        def cpu(*options: object) -> Any:
            return of_type(agent(*IDLE, "--watch", "/proc/sys/kernel/pid_max", *options), "watch")[0]["cpu"]

        assert cpu() == ALLOWED[-1]
        assert cpu("--cpus", ALLOWED[-1]) == ALLOWED[-2]
        assert cpu("--cpus", ALLOWED[-1], "--watch-cpu", ALLOWED[-1]) == ALLOWED[-1]
        assert cpu("--cpus", ",".join(map(str, ALLOWED))) is None

    def test_on_the_only_cpu_it_runs_there_too(self, agent: Any) -> None:
        alone = type(agent)(["taskset", "-c", str(ALLOWED[0]), *agent.command])
        answer = alone(*IDLE, "--cpus", ALLOWED[0], "--watch", "/proc/sys/kernel/pid_max")
        assert of_type(answer, "watch")[0]["cpu"] is None
        assert len(columns(answer)["begin_ns"]) >= 2

    def test_a_cpu_that_is_not_ours_is_refused(self, agent: Any) -> None:
        answer = agent(*IDLE, "--watch", "/proc/sys/kernel/pid_max", "--watch-cpu", 1023)
        assert answer.error["code"] == "usage"
        assert "--watch-cpu 1023" in answer.error["message"]


class TestCommand:
    def texts(self, agent: Any, *command: object, ms: int = 30) -> set[str | None]:
        return set(columns(agent("idle", "--ms", ms, *words("--watch-run", *command)))["text"])

    def test_its_words_go_through_no_shell_and_its_output_is_text(self, agent: Any) -> None:
        assert self.texts(agent, "printf", "%s,%s\n", "$HOME", "a  b") == {"$HOME,a  b\n"}

    def test_the_text_stands_beside_the_values(self, agent: Any) -> None:
        answer = agent(*IDLE, "--watch", "/proc/sys/kernel/pid_max", *words("--watch-run", "echo", 1.5))
        seen = columns(answer)
        assert len(seen["text"]) == len(seen["values"][0]) == len(seen["begin_ns"])
        assert set(seen["text"]) == {"1.5\n"}
        assert "text" not in of_type(agent(*IDLE, "--watch", "/proc/sys/kernel/pid_max"), "samples")[0]

    def test_bytes_that_are_no_utf8_come_back_as_valid_json(self, agent: Any) -> None:
        assert self.texts(agent, "printf", r"\377a\0b") == {"?a\0b"}

    @pytest.mark.parametrize(
        "command",
        [
            ("false",),
            ("/nonexistent/vcgencmd",),
            ("sh", "-c", "echo 5; exit 1"),
            ("sh", "-c", "echo 5; kill $$"),
            ("head", "-c", "8193", "/dev/zero"),
        ],
        ids=["false", "missing", "failed", "signal", "too long"],
    )
    def test_without_a_whole_answer_there_is_null(self, agent: Any, command: tuple[str, ...]) -> None:
        assert self.texts(agent, *command) == {None}

    def test_what_it_says_elsewhere_is_no_text_and_it_is_asked_nothing(self, agent: Any) -> None:
        assert self.texts(agent, "sh", "-c", "echo lost >&2; cat; echo kept") == {"kept\n"}

    def test_eight_kibibytes_are_kept_in_lines_below_a_mebibyte(self, agent: Any) -> None:
        answer = agent("idle", "--ms", 600, *words("--watch-run", "head", "-c", 8192, "/dev/zero"))
        assert set(columns(answer)["text"]) == {"\0" * 8192}
        assert len(of_type(answer, "samples")[0]["text"]) <= 20

    def test_a_command_that_hangs_is_ended_with_its_children(self, agent: Any, tmp_path: Path) -> None:
        said = tmp_path / "group"
        assert self.texts(agent, "sh", "-c", f"echo $$ >> {said}; sleep 60 & sleep 61", ms=1) == {None}
        for group in said.read_text().split():
            wait_until(lambda group=group: not alive_in_group(int(group)))

    def test_a_background_process_does_not_outlive_a_killed_agent(self, start: Any, tmp_path: Path) -> None:
        said = tmp_path / "group"
        process = start("idle", "--ms", 60000, *words("--watch-run", "sh", "-c", f"echo $$ > {said}; exec sleep 60"))
        wait_until(lambda: said.exists() and said.read_text())
        group = int(said.read_text())
        process.kill()
        wait_until(lambda: not alive_in_group(group))

    @needs_two_cpus
    def test_it_runs_on_the_cpu_of_the_watch(self, agent: Any) -> None:
        program = ("grep", "Cpus_allowed_list", "/proc/self/status")
        answer = agent(*IDLE, "--cpus", ALLOWED[0], *words("--watch-run", *program))
        assert set(columns(answer)["text"]) == {f"Cpus_allowed_list:\t{ALLOWED[-1]}\n"}


def alive_in_group(group: int) -> bool:
    """Whether a process of the group is more than a zombie that nobody waits for."""
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[2]) == group and fields[0] not in "ZX":
            return True
    return False


class TestBounds:
    def test_many_samples_come_in_lines_of_five_hundred(self, agent: Any, tmp_path: Path) -> None:
        path = tmp_path / "longest"
        path.write_text(str(-(2**63)))
        answer = agent("idle", "--ms", 500, *words("--watch", *[path] * 64), "--watch-period-ns", 200_000)
        seen = columns(answer)
        assert len(of_type(answer, "samples")) == -(-len(seen["begin_ns"]) // 500)
        assert {value for column in seen["values"] for value in column} == {-(2**63)}
        assert of_type(answer, "watch")[0]["dropped"] == 0

    def test_memory_for_the_samples_that_is_refused_is_an_error_line(self, agent: Any) -> None:
        few = 32 << 20
        answer = agent(
            *IDLE,
            *("--watch", "/proc/sys/kernel/pid_max"),
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (few, few)),
        )
        assert answer.error["code"] == "memory"
        assert "the watch" in answer.error["message"]

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            (("--watch", "power"), "absolute path"),
            (("--watch", ""), "absolute path"),
            (words("--watch", *["/x"] * 65), "more than 64"),
            (words("--watch-run", *["x"] * 17), "more than 16"),
            (("--watch-period-ns", 199_999), "from 200000 to 10000000000"),
            (("--watch-period-ns", "1e9"), "from 200000"),
            (("--watch-cpu", "0-1"), "expected an integer"),
            (("--watch",), "needs a value"),
        ],
    )
    @pytest.mark.parametrize("command", [LLM, MM, SCORE, IDLE], ids=lambda command: command[0])
    def test_options_have_bounds(self, agent: Any, command: Any, options: Any, said: str) -> None:
        answer = agent(*command, *options)
        assert answer.error["code"] == "usage"
        assert said in answer.error["message"]

    @pytest.mark.parametrize("ms", [(), ("--ms", 0), ("--ms", 3_600_001), ("--ms", 1, "--min-ms", 5)])
    def test_idle_needs_its_time_and_nothing_to_repeat(self, agent: Any, ms: Any) -> None:
        assert agent("idle", *ms).error["code"] == "usage"


class TestMarks:
    def test_a_product_is_marked_from_its_first_batch_to_its_last(self, agent: Any) -> None:
        answer = agent(*MM, "--case", "w8a8:64x64:2", "--iterations", 5)
        for line in answer.results:
            assert line["end_ns"] - line["begin_ns"] >= sum(line["ns"])
        assert [line["type"] for line in answer.results] == ["mm", "mm"], "nothing was watched"

    @pytest.mark.parametrize("watched", [("--watch", "/x"), ("--watch-run", "true")])
    def test_phases_of_a_model_alternate_and_every_one_is_marked(self, agent: Any, watched: Any) -> None:
        prefill, decode = of_type(agent(*LLM, *watched), "llm")
        for line in (prefill, decode):
            assert [end - begin for begin, end in line["spans"]] == line["ns"]
            assert [line["spans"][0][0], line["spans"][-1][1]] == [line["begin_ns"], line["end_ns"]]
        for before, after in zip(prefill["spans"], decode["spans"], strict=True):
            assert before[1] == after[0]
        edges = [edge for pair in zip(prefill["spans"], decode["spans"], strict=True) for span in pair for edge in span]
        assert edges == sorted(edges)

    def test_without_a_watch_there_are_marks_and_no_spans(self, agent: Any) -> None:
        for line in agent(*LLM).results:
            assert line["type"] == "llm"
            assert line["end_ns"] - line["begin_ns"] >= sum(line["ns"])
            assert "spans" not in line

    def test_idle_lasts_as_long_as_it_was_told(self, agent: Any) -> None:
        (line,) = agent("idle", "--ms", 50).results
        assert line["type"] == "idle"
        assert line["end_ns"] - line["begin_ns"] >= 49.9 * MS


class TestMinMs:
    def test_every_product_lasts_so_long_and_the_iterations_are_kept(self, agent: Any) -> None:
        lines = agent("mm", "--case", "w4a8:64x64:1", "--case", "fp16:640x64:4", "--iterations", 3, "--min-ns", 100_000,
                      "--min-ms", 20).results  # fmt: skip
        assert all(sum(line["ns"]) >= 20 * MS and len(line["ns"]) > 3 for line in lines)
        assert all(sum(line["ns"][:-1]) < 20 * MS for line in lines), "no batch more than was needed"
        assert len(agent(*MM, "--min-ms", 0).results[0]["ns"]) == 2

    def test_the_passes_of_a_model_last_so_long_together(self, agent: Any) -> None:
        prefill, decode = agent(*LLM, "--min-ms", 20).results
        assert len(prefill["ns"]) == len(decode["ns"]) > 2
        assert sum(prefill["ns"]) + sum(decode["ns"]) >= 20 * MS
        assert sum(prefill["ns"][:-1]) + sum(decode["ns"][:-1]) < 20 * MS

    def test_a_text_is_scored_again_and_again_but_told_once(self, agent: Any, tmp_path: Path) -> None:
        def score(*options: object) -> tuple[list[Any], bytes]:
            answer = agent(*SCORE, "--write-reference", tmp_path / "reference", *options)
            return [line | {"t": 0} for line in answer.results], (tmp_path / "reference").read_bytes()

        begin = time.monotonic()
        assert score("--min-ms", 300) == score()
        assert time.monotonic() - begin >= 0.3

    def test_values_end_before_their_line_grows_too_long(self, agent: Any) -> None:
        shortest = (*LLM[:3], "--prefill", 1, "--decode", 1, "--min-ms", 3_600_000)
        assert {len(line["ns"]) for line in agent(*shortest).results} == {100_000}
        watched = of_type(agent(*shortest, "--watch", "/x"), "llm")
        assert {len(line["spans"]) for line in watched} == {20_000}
        (product,) = agent("mm", "--case", "w2a8:8x32:1", "--min-ns", 0, "--min-ms", 3_600_000, "--warm").results
        assert len(product["ns"]) == 100_000


class TestSignature:
    @pytest.mark.parametrize("command", [LLM, IDLE], ids=lambda command: command[0])
    def test_six_bursts_stand_around_the_work_with_rest_between_all(self, agent: Any, command: Any) -> None:
        answer = agent(*command, "--signature", "--cpus", ALLOWED[0], "--watch", "/proc/sys/kernel/pid_max")
        (line,) = of_type(answer, "signature")
        edges = line["edges_ns"]
        assert len(edges) == 12
        assert edges == sorted(edges)
        assert all(end - begin >= 200 * MS for begin, end in zip(edges[::2], edges[1::2], strict=True))
        seen = columns(answer)
        assert seen["end_ns"][0] <= edges[0] - 200 * MS
        assert seen["begin_ns"][-1] >= edges[-1] + 200 * MS
        for work in of_type(answer, command[0]):
            marks = [*edges[:6], work["begin_ns"], work["end_ns"], *edges[6:]]
            assert marks == sorted(marks)
        rests = [after - before for before, after in zip(edges[1:-1:2], edges[2::2], strict=True)]
        assert all(rest >= 200 * MS for rest in rests)
        assert edges[6] - max(work["end_ns"] for work in of_type(answer, command[0])) >= 200 * MS

    def test_it_needs_no_sensor_on_the_device(self, agent: Any) -> None:
        answer = agent(*LLM, "--signature")
        assert [line["type"] for line in answer.results] == ["llm", "llm", "signature"]
        assert "spans" in answer.results[0]


class TestLease:
    def test_idle_does_not_outlive_its_lease(self, start: Any, tmp_path: Path) -> None:
        file = tmp_path / "lease"
        holder = start("lease", "--file", file, "--fence", 1, "--holder", "lab", stdin=subprocess.PIPE)
        assert [json.loads(holder.stdout.readline())["t"] for _ in ("hello", "held")]
        said = tmp_path / "said"
        run = words("--watch-run", "sh", "-c", f"echo $$ > {said}; exec sleep 60")
        idle = start("idle", "--ms", 60000, *run, env=os.environ | {"BENCH_LEASE": f"1:{file}"})
        wait_until(lambda: said.exists() and said.read_text())
        group = int(said.read_text())
        holder.kill()
        error = json.loads(idle.communicate(timeout=SECONDS)[0].splitlines()[-1])
        assert error["code"] == "lease"
        assert idle.returncode == 7
        wait_until(lambda: not alive_in_group(group))


class TestOnArm:
    def test_a_watch_sees_files_and_commands(self, arm_agent: Any, tmp_path: Path) -> None:
        arm = arm_agent("cortex-a72")
        path = tmp_path / "power"
        path.write_text("0x2a\n")
        echo = shutil.which("echo")
        answer = arm(*LLM, "--cpus", ALLOWED[0], "--watch", path, "--watch", "/x", *words("--watch-run", echo, "a"))
        seen = columns(answer)
        assert [set(column) for column in seen["values"]] == [{42}, {None}]
        assert set(seen["text"]) == {"a\n"}
        prefill, decode = of_type(answer, "llm")
        assert seen["end_ns"][0] <= prefill["begin_ns"] <= decode["end_ns"] <= seen["begin_ns"][-1]
        assert of_type(answer, "watch")[0]["cpu"] == (ALLOWED[-1] if len(ALLOWED) > 1 else None)

    def test_idle_ends_at_once_and_with_its_signature(self, arm_agent: Any) -> None:
        answer = arm_agent("cortex-a76")(*IDLE, "--signature", "--watch", "/x", "--watch-period-ns", 10_000 * MS)
        assert [line["type"] for line in answer.results] == ["idle", "signature", "watch", "samples"]
        assert len(of_type(answer, "signature")[0]["edges_ns"]) == 12


def shape(value: Any) -> Any:
    """Keys of objects, and one element of each list."""
    if isinstance(value, dict):
        return {name: shape(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return type(value) if isinstance(value, str) else None


@pytest.mark.parametrize("name", ["idle", "watch"])
def test_the_golden_streams_are_what_the_agent_still_says(agent: Any, name: str) -> None:
    golden = [json.loads(line) for line in (GOLDEN / "protocol" / f"{name}.jsonl").read_text().splitlines()]
    watched = ("--watch", "/proc/sys/kernel/pid_max", "--watch", "/x", *words("--watch-run", "echo", "1.5 A"))
    command = IDLE if name == "idle" else (*LLM, "--signature")
    answer = agent(*command, *watched)
    assert [shape(line) for line in answer.results] == [shape(line) for line in golden[1:-1]]
