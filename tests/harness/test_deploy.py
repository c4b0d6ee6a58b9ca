"""An artifact arrives whole, once, under the name of its content."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import devices
from devices.device import Device
from devices.session import Session
from harness.artifact import Artifact, artifact_of
from harness.deploy import collect, deploy
from harness.errors import InfrastructureError


@pytest.fixture
def session(local_device: Callable[[str], Device]) -> Session:
    return devices.open_session(local_device("a"))


@pytest.fixture
def model(tmp_path: Path) -> Artifact:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"weights" * 1000)
    return artifact_of("model", path)


def files(session: Session) -> list[str]:
    return sorted(str(p.relative_to(session.root)) for p in Path(session.root).rglob("*") if p.is_file())


def test_it_lies_under_its_sha256_with_its_content(session: Session, model: Artifact) -> None:
    remote = deploy(session, model)
    assert remote == f"{session.root}/artifacts/{model.sha256}-model"
    assert Path(remote).read_bytes() == model.path.read_bytes()
    assert files(session) == [f"artifacts/{model.sha256}-model"]


def test_an_agent_can_be_executed_and_a_model_cannot(session: Session, agent: Artifact, model: Artifact) -> None:
    assert session.run([deploy(session, agent), "spin"]).returncode == 0
    assert not os.access(deploy(session, model), os.X_OK)


def test_what_is_there_is_not_sent_again(session: Session, model: Artifact) -> None:
    first = Path(deploy(session, model)).stat().st_ino
    assert Path(deploy(session, model)).stat().st_ino == first


def test_a_copy_that_rotted_on_the_device_is_replaced(session: Session, model: Artifact) -> None:
    remote = Path(deploy(session, model))
    remote.write_bytes(b"rotten")
    assert Path(deploy(session, model)).read_bytes() == model.path.read_bytes()


def test_a_file_that_changed_since_it_was_hashed_is_not_installed(session: Session, model: Artifact) -> None:
    model.path.write_bytes(b"something else")
    with pytest.raises(InfrastructureError, match="changed since it was hashed"):
        deploy(session, model)
    assert files(session) == []


def test_deploying_from_many_processes_at_once_leaves_one_whole_file(session: Session, model: Artifact) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(4) as pool:
        remotes = set(pool.map(lambda _: deploy(session, model), range(8)))
    assert files(session) == [f"artifacts/{model.sha256}-model"]
    assert {Path(remote).read_bytes() for remote in remotes} == {model.path.read_bytes()}


def make(tmp_path: Path, number: int) -> Artifact:
    path = tmp_path / f"model{number}"
    path.write_bytes(bytes([number]) * 100)
    return artifact_of("model", path)


def test_collection_removes_the_longest_unused_beyond_the_budget_and_never_what_is_kept(
    session: Session, tmp_path: Path
) -> None:
    artifacts = [make(tmp_path, number) for number in range(4)]
    for age, artifact in enumerate(artifacts):
        os.utime(deploy(session, artifact), (1000 + age, 1000 + age))
    removed = collect(session, keep={artifacts[0].sha256}, budget_bytes=250)
    assert removed == [f"{session.root}/artifacts/{artifacts[number].sha256}-model" for number in (1, 2)]
    assert files(session) == sorted(f"artifacts/{artifacts[number].sha256}-model" for number in (0, 3))


def test_using_an_artifact_makes_it_young(session: Session, tmp_path: Path) -> None:
    old, new = make(tmp_path, 1), make(tmp_path, 2)
    for age, artifact in enumerate((old, new)):
        os.utime(deploy(session, artifact), (1000 + age, 1000 + age))
    deploy(session, old)
    assert collect(session, keep=(), budget_bytes=100) == [f"{session.root}/artifacts/{new.sha256}-model"]


def test_collection_within_the_budget_and_of_strangers_removes_nothing(session: Session, model: Artifact) -> None:
    deploy(session, model)
    stranger = Path(session.root) / "artifacts" / "notes\nof mine.txt"
    stranger.write_text("mine")
    assert collect(session, keep=(), budget_bytes=1 << 20) == []
    assert collect(session, keep=(), budget_bytes=0) == [f"{session.root}/artifacts/{model.sha256}-model"]
    assert stranger.exists()


def test_collection_also_removes_uploads_that_were_cut_off_long_ago(session: Session, model: Artifact) -> None:
    deploy(session, model)
    old, young = (Path(session.root) / "incoming" / name for name in ("old.part-1", "young.part-2"))
    for part in (old, young):
        part.write_bytes(b"half")
    os.utime(old, (1000, 1000))
    collect(session, keep=(), budget_bytes=1 << 20)
    assert (old.exists(), young.exists()) == (False, True)


def test_a_bench_folder_with_spaces_and_quotes_is_no_problem(tmp_path: Path, model: Artifact) -> None:
    device = Device(name="odd", family="local", transport="local", root=str(tmp_path / "it's $HOME; a b"))
    with devices.open_session(device) as session:
        assert Path(deploy(session, model)).read_bytes() == model.path.read_bytes()
        assert len(collect(session, (), 0)) == 1


def test_a_device_without_any_hash_program_is_an_infrastructure_error(session: Session, model: Artifact) -> None:
    class Bare(Session):
        """No program but the shell's own is found."""

        def run(self, argv, *arguments, **options):  # type: ignore[no-untyped-def]
            hidden = {"PATH": "/nonexistent"} if argv[0] == "sh" and "sha256sum" in argv[2] else None
            return super().run(["/bin/sh", *argv[1:]] if hidden else argv, *arguments, environment=hidden, **options)

    bare = Bare(session.device, session._transport)
    with pytest.raises(InfrastructureError, match="found none of sha256sum, shasum, python3"):
        deploy(bare, replace(model))
    assert files(session) == []
