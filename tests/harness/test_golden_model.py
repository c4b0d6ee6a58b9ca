"""harness/golden_model.py, and what health makes of its answers: equal bits are good, anything else is a fault."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices import Session, open_session
from devices.device import Device
from harness.artifact import Artifact, artifact_of
from harness.deploy import deploy
from harness.golden_model import WINDOW, GoldenModel, golden_model, golden_model_job
from harness.health import SCORE_TOLERANCE, assess_scores, golden_scores, is_golden
from harness.job import Job
from harness.launch import run_launch
from harness.store import Store

HOST = [-5.0, -0.5, -12.0]

scores = st.lists(st.floats(-1e4, -1e-3), min_size=1, max_size=70)


@given(scores)
def test_the_same_bits_are_good(host: list[float]) -> None:
    assert assess_scores(host, host, host).state == "good"


@given(scores, st.data())
def test_any_bit_of_any_token_that_changed_quarantines(host: list[float], data: st.DataObject) -> None:
    token = data.draw(st.integers(0, len(host) - 1))
    for towards in (0.0, -math.inf):
        latest = [*host[:token], math.nextafter(host[token], towards), *host[token + 1 :]]
        found = assess_scores(host, host, latest)
        assert found.state == "quarantined"
        assert f"1 of {len(host)} tokens, such as {token} with" in found.reason


@given(scores, st.floats(-0.999, 0.999))
def test_another_processor_may_differ_from_the_host_by_the_tolerance(host: list[float], share: float) -> None:
    there = [score * (1 + share * SCORE_TOLERANCE) for score in host]
    assert assess_scores(host, there, there).state == "good"


@given(scores, st.sampled_from([1 - 1.01e-3, 1 + 1.01e-3, 0.0, -1.0, math.inf, math.nan]), st.data())
def test_a_device_that_is_wrong_from_the_beginning_is_quarantined(
    host: list[float], factor: float, data: st.DataObject
) -> None:
    token = data.draw(st.integers(0, len(host) - 1))
    there = [*host[:token], host[token] * factor, *host[token + 1 :]]
    found = assess_scores(host, there, there)
    assert found.state == "quarantined"
    assert "the golden model is wrong" in found.reason


@given(scores, scores, scores)
def test_no_answer_says_nothing_and_no_answer_makes_it_fail(
    host: list[float], first: list[float], latest: list[float]
) -> None:
    assert assess_scores(host, [], []).state == "unknown"
    assert assess_scores(host, first, latest).state in ("good", "quarantined")


def test_a_text_of_another_length_is_wrong() -> None:
    assert "scores 2 tokens of 3" in assess_scores(HOST, HOST[:2], HOST[:2]).reason


def test_the_reason_tells_the_worst_token() -> None:
    found = assess_scores(HOST, HOST, [-5.00001, -0.5, -12.001])
    assert found.reason == (
        "the golden model changed its answer: 2 of 3 tokens, such as 2 with -12.001, against -12 at first"
    )


# the model


@pytest.fixture(scope="module")
def golden_files(tmp_path_factory: pytest.TempPathFactory) -> GoldenModel:
    return golden_model(tmp_path_factory.mktemp("home"))


def test_it_is_small_and_every_machine_makes_the_same(
    golden_files: GoldenModel, tmp_path_factory: pytest.TempPathFactory
) -> None:
    again = golden_model(tmp_path_factory.mktemp("another"))
    assert golden_files.model.bytes + golden_files.tokens.bytes < 1_000_000
    assert (again.model.sha256, again.tokens.sha256) == (golden_files.model.sha256, golden_files.tokens.sha256)
    assert again.logprobs == golden_files.logprobs
    assert len(golden_files.logprobs) == WINDOW - 1
    assert min(golden_files.logprobs) > -20 and max(golden_files.logprobs) < -0.1


def test_its_job_is_golden_and_runs_where_the_job_does(golden_files: GoldenModel) -> None:
    asked = Job({"name": "a"}, "llm", {"agent": "0" * 64}, {"threads": 2, "cpus": (4, 5), "launches": 6})
    job = golden_model_job(asked, golden_files)
    assert job is not None and is_golden(job)
    assert (job.device, job.artifacts["agent"], job.launches) == (asked.device, "0" * 64, 1)
    assert (job.params["threads"], job.params["cpus"]) == (2, [4, 5])
    assert golden_model_job(Job({"name": "a"}, "facts"), golden_files) is None


class GoldenDevice:
    """A device that answers the golden model and keeps the answers."""

    def __init__(self, session: Session, store: Store, agent: Artifact) -> None:
        self.session, self.store, self.agent = session, store, agent
        self.run_id = store.begin_run("test", "bench", {})

    def ask(self, golden: GoldenModel, threads: int = 1, model: Artifact | None = None) -> Job:
        """One launch; `model` lies there in place of the golden one."""
        asked = Job({"name": "a"}, "llm", {"agent": self.agent.sha256}, {"threads": threads})
        job = golden_model_job(asked, golden)
        assert job is not None
        files = {"agent": self.agent, "model": model or golden.model, "tokens": golden.tokens}
        paths = {role: deploy(self.session, file) for role, file in files.items()}
        self.store.append(self.run_id, job, run_launch(self.session, job, paths))
        return job


@pytest.fixture
def device(
    store: Store, local_device: Callable[[str], Device], real_agent: Callable[[str], Artifact]
) -> Iterator[GoldenDevice]:
    with open_session(local_device("a")) as session:
        yield GoldenDevice(session, store, real_agent("x86_64-linux"))


@pytest.mark.parametrize("threads", [1, 2])
def test_this_machine_computes_what_the_host_expects_and_the_same_bits_again(
    device: GoldenDevice, golden_files: GoldenModel, store: Store, threads: int
) -> None:
    for _ in range(3):
        job = device.ask(golden_files, threads)
    first, latest = golden_scores(store, job)
    assert first == latest
    # A key or value between two fp16 numbers may round the other way than on the host: 2e-5 here.
    assert max(_relative(latest, golden_files.logprobs)) < SCORE_TOLERANCE / 10
    assert assess_scores(golden_files.logprobs, first, latest).state == "good"


def test_one_weight_that_flipped_on_the_device_is_found(
    device: GoldenDevice, golden_files: GoldenModel, store: Store, tmp_path: Path
) -> None:
    content = bytearray(golden_files.model.path.read_bytes())
    # The last tensors are the linears' codes and scales; this byte holds two 4-bit codes.
    content[-20_000] ^= 0x80
    flipped = tmp_path / "flipped.gguf"
    flipped.write_bytes(content)
    device.ask(golden_files)
    job = device.ask(golden_files, model=artifact_of("model", flipped))
    first, latest = golden_scores(store, job)
    found = assess_scores(golden_files.logprobs, first, latest)
    assert found.state == "quarantined"
    assert "the golden model" in found.reason


def test_a_device_that_was_freed_begins_anew(device: GoldenDevice, golden_files: GoldenModel, store: Store) -> None:
    device.ask(golden_files)
    job = device.ask(golden_files)
    launches = [started for s in store.measurements(job_keys=[job.key]) for started in _starts(s.measurement)]
    assert golden_scores(store, job, max(launches))[0] == golden_scores(store, job)[1]
    assert golden_scores(store, job, "9999") == ((), ())
    assert golden_scores(store, replace(job, device={"name": "b"})) == ((), ())


def _starts(measurement: object) -> list[str]:
    return [str(context["started"]) for context in measurement.launch_contexts()]  # type: ignore[attr-defined]


def _relative(found: Sequence[float], expected: Sequence[float]) -> list[float]:
    return [abs(a / b - 1) for a, b in zip(found, expected, strict=True)]
