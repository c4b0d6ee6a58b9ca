"""Shelly plugs and relays of generation 2 and later, over HTTP.

    meter: {kind: shelly, host: 192.168.1.30, channel: 0, password_env: SHELLY_PASSWORD}

Shelly technical documentation, component Switch: GET /rpc/Switch.GetStatus?id=0 has `apower`, the active power in W.
The user is always `admin` there, and its digest is SHA-256.
"""

from devices.device import MeterConfig
from devices.families.base import Shell
from devices.power.base import Rails, Sample
from devices.power.http import credentials, fetch_json, measured
from devices.power.wall import wall_rails, wall_sample


class Shelly:
    def __init__(self, config: MeterConfig) -> None:
        self.config = config

    def find(self, session: Shell) -> Rails:
        return wall_rails(self._watts)

    def read(self, session: Shell) -> Sample:
        return wall_sample(self._watts)

    def _watts(self) -> float:
        path = f"/rpc/Switch.GetStatus?id={self.config.channel}"
        return measured(fetch_json(self.config, path, credentials(self.config)), "apower")
