"""Instructions of products: counted under the emulator from the agent's own code, and told as estimates."""

import json
from collections.abc import Callable

import pytest

from devices.device import Device
from devices.inventory import Inventory
from devices.virtual.board import load_board
from harness.artifact import Artifact
from harness.cli import main
from harness.errors import UnsupportedError
from harness.instructions import DEFAULT_CASES, PEER, Counted, Product, board_of, count_products
from harness.kernel_cases import check_case

ALONE = "w3a8g32:512x512:4"
"""No peer multiplies 3 bits: counting it fetches nothing."""


@pytest.fixture(scope="module")
def count(real_agent: Callable[[str], Artifact]) -> Callable[..., list[Counted]]:
    """What a case executes on a board, ours and the peer's."""
    agent = real_agent("aarch64-linux").path

    def products(board: str, case: str, variant: str | None = None) -> list[Counted]:
        counted, notes = count_products(load_board(board), agent, [case], variant, lambda done, total, what: None)
        assert not notes
        return counted

    return products


def test_two_runs_count_the_same_instructions_up_to_noise(count: Callable[..., list[Counted]]) -> None:
    (first,), (again,) = count("pi5", ALONE), count("pi5", ALONE)
    # A timer of the emulator may fall into one of the runs.
    assert first.instructions_per_mac == pytest.approx(again.instructions_per_mac, rel=0.03)
    assert first.kernel.startswith("mm_w3a8_")
    assert first.cpu == "cortex-a76"
    assert first.estimated_cycles_per_mac["A72"] is None  # no sdot there


def test_the_boards_processor_decides_which_kernel_is_counted(count: Callable[..., list[Counted]]) -> None:
    (pi4,), (pi5,) = count("pi4", ALONE), count("pi5", ALONE)
    (chosen,) = count("pi5", ALONE, pi4.kernel)
    assert pi4.kernel != pi5.kernel
    assert pi5.instructions_per_mac < pi4.instructions_per_mac
    assert chosen.instructions_per_mac == pytest.approx(pi4.instructions_per_mac, rel=0.03)
    assert pi4.estimated_cycles_per_mac["A72"] is not None


@pytest.mark.lab
@pytest.mark.full
def test_the_peer_is_counted_beside_ours(count: Callable[..., list[Counted]]) -> None:
    """Fetches Debian's Python and the peer's wheel for aarch64."""
    ours, peer = count("pi5", "w4a8g32:256x256:1")
    assert (ours.case, peer.case) == ("w4a8g32:256x256:1",) * 2
    assert peer.kernel.startswith(PEER)
    assert peer.instructions_per_mac > 0
    assert peer.estimated_cycles_per_mac["A72"] is None  # its kernel has dot products, as ours


def test_a_board_need_not_be_up_and_a_running_one_is_known_by_its_tag() -> None:
    running = Device(name="pi5-2", host="10.77.1.2", tags=("virtual", "pi5"))
    assert board_of(Inventory(), "pi4") == load_board("pi4")
    assert board_of(Inventory().joined([running]), "pi5-2") == load_board("pi5")


@pytest.mark.parametrize(("name", "found"), [("local", "is a real device"), ("pi9", "is no virtual board")])
def test_what_is_no_virtual_board_is_refused(name: str, found: str) -> None:
    with pytest.raises(UnsupportedError, match=rf"'{name}' {found}: name one of .*pi5.*leave out --instructions"):
        board_of(Inventory(), name)


def test_a_real_board_that_bears_the_name_of_a_virtual_one_is_real() -> None:
    with pytest.raises(UnsupportedError, match="is a real device"):
        board_of(Inventory().joined([Device(name="pi5", host="10.0.0.5")]), "pi5")


def test_default_cases_are_cases_and_both_goals_have_a_peer() -> None:
    products = [Product.parse(check_case(case)) for case in DEFAULT_CASES]
    assert {4, 8} <= {product.scheme.weight_bits for product in products if product.has_peer}
    assert [str(product) for product in products] == list(DEFAULT_CASES)
    assert not Product.parse("w4a8g96:64x96:1").has_peer


def bench(*words: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(words)
    return int(ended.value.code or 0)


def test_the_command_says_that_these_are_estimates(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("kernels", ALONE, "--device", "pi5", "--instructions") == 0
    assert "ESTIMATES" in capsys.readouterr().out
    assert bench("kernels", ALONE, "--device", "pi5", "--instructions", "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["estimate"] and row["virtual"] and row["case"] == ALONE


@pytest.mark.parametrize("option", [("--energy",), ("--threads", "2")])
def test_what_cannot_be_counted_is_refused(option: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("kernels", ALONE, "--device", "pi5", "--instructions", *option) == 2
    assert "leave out --threads and --energy" in capsys.readouterr().err


def test_a_dry_run_names_board_and_cases(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("kernels", "--device", "pi5", "--instructions", "--dry-run", "--json") == 0
    assert json.loads(capsys.readouterr().out)["cases"] == list(DEFAULT_CASES)
