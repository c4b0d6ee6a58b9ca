"""The tables of the result database. Rows are only ever added.

runs 1-n run_events        a run and when it started, finished or was interrupted
runs n-m jobs (run_jobs)   a resumed run also lists jobs that an earlier one answered
jobs 1-n launches          one row per process launch, failed attempts included
launches 1-n samples       one row per metric and subject, all raw values
leases                     who held a device when: a row when it is taken, renewed or given back
health                     what a device is fit for: a row when that changes, the last one counts
sessions 1-n session_steps a device held, tuned and measured without a break: what was done around its launches
calibrations               what was learned about a sensor of a device, for one build of its system
summaries                  what a run published: `bench verify` computes it again from the samples

History of VERSION: 1 (0.1.0) first; 2 adds leases and health; 3 adds sessions, session_steps, calibrations and
summaries. No version changed a table of the one before.
"""

from sqlalchemy import Column, Float, ForeignKey, Integer, LargeBinary, MetaData, String, Table, Text

VERSION = 3

metadata = MetaData()

schema_version = Table("schema_version", metadata, Column("version", Integer, primary_key=True))

runs = Table(
    "runs",
    metadata,
    Column("run_id", String(40), primary_key=True),
    Column("created", String(32), nullable=False),  # ISO 8601, UTC
    Column("device", Text, nullable=False),
    Column("command", Text, nullable=False),
    Column("config", Text, nullable=False),  # JSON
    Column("git_commit", String(64)),
    Column("bench_version", String(32), nullable=False),
)

run_events = Table(
    "run_events",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("run_id", ForeignKey("runs.run_id"), nullable=False, index=True),
    Column("created", String(32), nullable=False),
    Column("state", String(16), nullable=False),  # started | finished | interrupted | failed
)

jobs = Table(
    "jobs",
    metadata,
    Column("job_key", String(64), primary_key=True),
    Column("probe", String(32), nullable=False),
    Column("launches", Integer, nullable=False),  # wanted
    Column("device", Text, nullable=False),  # JSON, as the next two
    Column("artifacts", Text, nullable=False),
    Column("params", Text, nullable=False),
)

run_jobs = Table(
    "run_jobs",
    metadata,
    Column("id", Integer, primary_key=True),  # order in which the run met them
    Column("run_id", ForeignKey("runs.run_id"), nullable=False, index=True),
    Column("job_key", ForeignKey("jobs.job_key"), nullable=False, index=True),
)

launches = Table(
    "launches",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("run_id", ForeignKey("runs.run_id"), nullable=False),
    Column("job_key", ForeignKey("jobs.job_key"), nullable=False, index=True),
    Column("attempt", Integer, nullable=False),  # 1 unless earlier attempts failed
    Column("created", String(32), nullable=False),
    Column("context", Text, nullable=False),  # JSON: what all samples of the launch share
    Column("error", Text),
)

samples = Table(
    "samples",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("launch_id", ForeignKey("launches.id"), nullable=False, index=True),
    Column("metric", String(32), nullable=False),
    Column("unit", String(16), nullable=False),
    Column("subject", Text, nullable=False),  # JSON
    Column("context", Text, nullable=False),  # JSON: what is this sample's own
    Column("values", LargeBinary, nullable=False),  # raw values: little-endian float64
)

leases = Table(
    "leases",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("device", String(200), nullable=False, index=True),  # name in the inventory
    Column("fence", Integer, nullable=False),  # grows by every lease of a device: who has an older one is late
    Column("holder", String(200), nullable=False),
    Column("event", String(16), nullable=False),  # taken | renewed | ended
    Column("created", String(32), nullable=False),
    Column("expires", Float, nullable=False),  # seconds since 1970, of the harness's clock
)

health = Table(
    "health",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("device", String(200), nullable=False, index=True),  # name in the inventory
    Column("state", String(16), nullable=False),  # good | unknown | suspect | quarantined | retired
    Column("reason", Text, nullable=False),
    Column("created", String(32), nullable=False),
    Column("run_id", ForeignKey("runs.run_id")),  # the run that found out; none when a person said so
)

sessions = Table(
    "sessions",
    metadata,
    Column("session_id", String(40), primary_key=True),  # launches name it in their context
    Column("run_id", ForeignKey("runs.run_id"), nullable=False, index=True),
    Column("device", String(200), nullable=False, index=True),  # name in the inventory
    Column("created", String(32), nullable=False),
)

session_steps = Table(
    "session_steps",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("session_id", ForeignKey("sessions.session_id"), nullable=False, index=True),
    Column("step", String(32), nullable=False),
    Column("created", String(32), nullable=False),  # its end
    Column("seconds", Float, nullable=False),
    Column("outcome", String(16), nullable=False),  # done | unavailable | failed
    Column("data", Text, nullable=False),  # JSON
)

calibrations = Table(
    "calibrations",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("device", String(200), nullable=False, index=True),  # name in the inventory
    Column("sensor", String(32), nullable=False),
    Column("fingerprint", String(200), nullable=False),  # of the system's build: another one may count otherwise
    Column("created", String(32), nullable=False),
    Column("data", Text, nullable=False),  # JSON
)

summaries = Table(
    "summaries",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("run_id", ForeignKey("runs.run_id"), nullable=False, index=True),
    Column("job_key", ForeignKey("jobs.job_key"), nullable=False),
    Column("metric", String(32), nullable=False),
    Column("subject", Text, nullable=False),  # JSON
    Column("created", String(32), nullable=False),
    Column("summary", Text, nullable=False),  # JSON: value, interval, verdict, reasons, digest of the raw samples
)

VERSION_2 = (leases, health)
VERSION_3 = (sessions, session_steps, calibrations, summaries)
"""Tables that a version added to those of the one before."""

APPEND_ONLY = (schema_version, runs, run_events, jobs, run_jobs, launches, samples, *VERSION_2, *VERSION_3)
