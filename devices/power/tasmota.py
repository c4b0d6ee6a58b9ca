"""Plugs that run Tasmota, over HTTP.

    meter: {kind: tasmota, host: plug.local, user: admin, password_env: TASMOTA_PASSWORD}

Tasmota documentation, commands over web requests: GET /cm?cmnd=Status%208 has StatusSNS.ENERGY.Power, in W. A plug with
a web password takes it in the request, readable for the network: give it one that is used nowhere else.
"""

from urllib.parse import urlencode

from devices.device import MeterConfig
from devices.families.base import Shell
from devices.families.gather import Unavailable
from devices.power.base import Rails, Sample
from devices.power.http import credentials, fetch_json, measured
from devices.power.wall import wall_rails, wall_sample


class Tasmota:
    def __init__(self, config: MeterConfig) -> None:
        self.config = config

    def find(self, session: Shell) -> Rails:
        return wall_rails(self._watts)

    def read(self, session: Shell) -> Sample:
        return wall_sample(self._watts)

    def _watts(self) -> float:
        login = credentials(self.config)
        secret = {"user": login.user, "password": login.password} if login else {}
        answer = fetch_json(self.config, f"/cm?{urlencode(secret | {'cmnd': 'Status 8'})}")
        if "WARNING" in answer:  # with status 200: {"WARNING":"Need user=<username>&password=<password>"}
            raise Unavailable(
                f"{self.config.host}: wants a password; name it in `password_env` or `netrc` of the meter"
            )
        return measured(answer, "StatusSNS", "ENERGY", "Power")
