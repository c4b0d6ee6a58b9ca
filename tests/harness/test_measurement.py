"""A measurement tells what all launches share from what is their own."""

from harness.measurement import Measurement


def test_each_launch_has_the_shared_context_and_its_own() -> None:
    found = Measurement("key", "latency", "ns", {}, ((1.0,), (2.0,)), {"a": 1, "launches": [{"b": 2}, {"b": 3}]})
    assert found.launch_contexts() == [{"a": 1, "b": 2}, {"a": 1, "b": 3}]


def test_without_differences_every_launch_has_the_same_context() -> None:
    assert Measurement("key", "latency", "ns", {}, ((1.0,), (2.0,)), {"a": 1}).launch_contexts() == [{"a": 1}] * 2
