"""Questions: the jobs that a run puts to its devices."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from harness.artifact import Artifact
from harness.host import Host, Text
from harness.job import Job
from harness.probes.accuracy import accuracy_job
from harness.probes.latency import Phase, llm_job, mm_job, sustained_job
from harness.probes.peak import peak_job
from harness.station import Station
from harness.suite import Suite


@dataclass(frozen=True)
class Model:
    """A model file to deploy, with the scheme of every layer."""

    label: str
    schemes: Mapping[str, str]
    file: Artifact


@dataclass(frozen=True)
class Questions:
    suite: Suite
    host: Host
    text: Text
    run_id: str

    def operators(self, station: Station) -> list[Job]:
        """One job for each scheme, its weights rotating over as much memory as a whole model of that scheme takes."""
        return [self._operators(station, scheme) for scheme in self.suite.costed]

    def limits(self, station: Station) -> list[Job]:
        """What the device does at best, once a run."""
        job = peak_job(station.identity, station.agent.sha256, threads=self.suite.threads, cpus=station.cpus)
        return [self._of_this_run(job)] if self.suite.peaks else []

    def model(self, station: Station, model: Model, session: int) -> list[Job]:
        return [self.timing(station, model, session), self.scoring(station, model), *self.energy(station, model)]

    def energy(self, station: Station, model: Model) -> list[Job]:
        """Once a run, in the session that times the model first; none where nothing says what the device draws."""
        return [*self._energy(station, model, "prefill"), *self._energy(station, model, "decode")]

    def _energy(self, station: Station, model: Model, phase: Phase) -> list[Job]:
        """Of one phase alone (decoding begins with one token): in turns they would be too short for most sensors."""
        prefill, decode = (self.suite.prefill, 0) if phase == "prefill" else (1, self.suite.decode)
        work = self._llm(station, model, self.suite.energy_launches, prefill, decode)
        job = station.powered(work, self.suite.energy_ms, phase) if self.suite.energy else None
        return [] if job is None else [self._of_this_run(job)]

    def sustained(self, station: Station, model: Model) -> Job:
        """Once a run, and after all others: it heats the device."""
        work = self._llm(station, model, 1, self.suite.prefill, self.suite.decode)
        return self._of_this_run(sustained_job(work, self.suite.sustained_s))

    def timing(self, station: Station, model: Model, session: int) -> Job:
        """Models of one session are timed side by side, so that what disturbs the device meets all alike."""
        work = self._llm(station, model, self.suite.launches, self.suite.prefill, self.suite.decode)
        job = self._of_this_run(work, session=session)
        wanted = {"precision": self.suite.precision, "max_launches": self.suite.max_launches}
        return replace(job, params={**job.params, **wanted})

    def _llm(self, station: Station, model: Model, launches: int, prefill: int, decode: int) -> Job:
        return llm_job(
            station.identity,
            station.agent.sha256,
            model.file.sha256,
            prefill=prefill,
            decode=decode,
            iterations=self.suite.iterations,
            threads=self.suite.threads,
            cpus=station.cpus,
            launches=launches,
        )

    def scoring(self, station: Station, model: Model) -> Job:
        return accuracy_job(
            station.identity,
            station.agent.sha256,
            model.file.sha256,
            self.text.tokens.sha256,
            self.text.reference.sha256,
            window=self.host.window,
            threads=self.suite.threads,
            cpus=station.cpus,
        )

    def _operators(self, station: Station, scheme: str) -> Job:
        shapes = sorted(set(self.host.shapes.values()))
        job = mm_job(
            station.identity,
            station.agent.sha256,
            [f"{scheme}:{n}x{k}:{m}" for n, k in shapes for m in self.suite.lengths],
            footprint=self.host.linears_bytes(scheme),
            threads=self.suite.threads,
            cpus=station.cpus,
            launches=self.suite.launches,
        )
        return self._of_this_run(job)

    def _of_this_run(self, job: Job, **more: int) -> Job:
        """Times are of a day: another run asks again. Scores are not, so all runs share them."""
        return replace(job, params={**job.params, "run": self.run_id, **more})
