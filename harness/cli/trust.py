"""Host keys: `bench trust`."""

from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli import options
from harness.cli.lab import load_lab
from harness.cli.output import emit, say
from harness.errors import UsageError

if TYPE_CHECKING:
    from devices.transport.connection import OfferedKey


def trust(
    device: Annotated[str, typer.Argument(help="One device: its name in the inventory, or user@host.")],
    yes: Annotated[bool, typer.Option("--yes", help="Trust whatever key is offered now, unseen.")] = False,
    fingerprint: Annotated[str, typer.Option("--fingerprint", help="Trust this key only: SHA256:...")] = "",
    inventory: options.InventoryFile = None,
    json: options.Json = False,
) -> None:
    """Enrol the ssh host key of a device, after its fingerprint was compared with what the device itself shows."""
    from devices.errors import HostKeyError
    from devices.transport.connection import enrol, offered_host_key

    chosen = load_lab(inventory).pick(device)
    if chosen.transport != "ssh":
        raise UsageError(f"{chosen.name} is reached without ssh (transport {chosen.transport}); it has no host key")
    offered = offered_host_key(chosen)
    if fingerprint and fingerprint != offered.fingerprint:
        raise HostKeyError(
            f"{offered.name} offers {offered.kind} {offered.fingerprint}, expected {fingerprint}; nothing was written: "
            "something else answers there, or the fingerprint is that of another key"
        )
    if not (offered.known or fingerprint or yes or _confirmed(offered, json)):
        raise HostKeyError(f"{offered.name} is not trusted; nothing was written")
    enrol(offered)
    data = {"device": chosen.name, "host": offered.name, "type": offered.kind, "fingerprint": offered.fingerprint}
    done = "was known already" if offered.known else f"added to {offered.known_hosts}"
    emit(
        data | {"known_hosts": str(offered.known_hosts), "added": not offered.known},
        json,
        f"{offered.name} {offered.kind} {offered.fingerprint}: {done}",
    )


def _confirmed(offered: "OfferedKey", json: bool) -> bool:
    if json:
        raise UsageError("--json asks no questions; add --fingerprint SHA256:... or --yes")
    say(
        f"{offered.name} offers {offered.kind} {offered.fingerprint}\n"
        "The device itself shows its own with: for key in /etc/ssh/ssh_host_*.pub; do ssh-keygen -lf $key; done\n"
        f"It would be added to {offered.known_hosts}"
    )
    try:
        return typer.confirm("Are they equal?", err=True)
    except typer.Abort:
        raise UsageError("nobody answered; add --fingerprint SHA256:... or --yes") from None
