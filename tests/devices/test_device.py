"""A device can be named by its address alone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices import Device, device_from_address, placement_cpus
from devices.device import is_address
from devices.errors import InventoryError


@pytest.mark.parametrize(
    ("address", "user", "host", "port"),
    [
        ("pi@10.0.0.5", "pi", "10.0.0.5", None),
        ("pi@pi5.local:2222", "pi", "pi5.local", 2222),
        ("[::1]:22", None, "::1", 22),
        ("me@[fe80::1%eth0]", "me", "fe80::1%eth0", None),
        ("pi5.local:22", None, "pi5.local", 22),
    ],
)
def test_addresses(address: str, user: str | None, host: str, port: int | None) -> None:
    device = device_from_address(address)
    assert (device.user, device.host, device.port) == (user, host, port)
    assert (device.name, device.transport, device.family) == (address, "ssh", "linux")
    assert is_address(address)


@pytest.mark.parametrize(
    "address",
    ["", "@", "me@", "@host", "me@host:", "me@host:0", "me@host:65536", "me@host:x", "me@::1", "me@-oX", "a b@c"],
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(InventoryError, match="expected"):
        device_from_address(address)


def test_a_password_in_an_address_is_refused_and_not_repeated() -> None:
    with pytest.raises(InventoryError, match="a password has no place") as caught:
        device_from_address("me:hunter2@host")
    assert "hunter2" not in str(caught.value)


WORDS = st.from_regex(r"[a-z][a-z0-9.-]{0,10}", fullmatch=True)


@given(WORDS, WORDS, st.none() | st.integers(1, 65535).filter(lambda port: port != 22))
def test_an_address_survives_the_round_trip(user: str, host: str, port: int | None) -> None:
    device = Device(name="x", host=host, user=user, port=port)
    back = device_from_address(device.address)
    assert (back.user, back.host, back.port) == (user, host, port)


@given(st.text(max_size=30))
def test_any_text_is_an_address_or_explained(text: str) -> None:
    try:
        assert device_from_address(text).host
    except InventoryError as error:
        assert "expected" in str(error)


def test_placements() -> None:
    assert placement_cpus("all") is None
    assert placement_cpus("cpus=0-2,6") == (0, 1, 2, 6)
    assert placement_cpus("cpus=3,1,1") == (1, 3)
    for wrong in ("", "cpus=", "cpus", "cpus=1-", "cpus=a", "0-3", "cpus=2-1", "cpus=1,,2", "cpus=99999"):
        with pytest.raises(InventoryError, match="placement"):
            placement_cpus(wrong)
