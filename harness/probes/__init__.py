"""What can be asked of a device."""

from harness.probes.accuracy import Accuracy
from harness.probes.base import Probe
from harness.probes.info import Info, Spin
from harness.probes.latency import Llm, Mm
from harness.probes.peak import Peak
from harness.probes.peer import PeerModel, PeerProducts
from harness.probes.power import Energy, Idle

PROBES: dict[str, Probe] = {
    "info": Info(),
    "spin": Spin(),
    "mm": Mm(),
    "peak": Peak(),
    "peer": PeerProducts(),
    "llm": Llm(),
    "peer_llm": PeerModel(),
    "accuracy": Accuracy(),
    "energy": Energy(),
    "idle": Idle(),
}
"""Name of a job's probe -> how it is asked and its answer read."""

__all__ = ["PROBES", "Probe"]
