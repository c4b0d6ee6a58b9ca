"""The tables of the result database. Rows are only ever added.

runs 1-n run_events        a run and when it started, finished or was interrupted
runs n-m jobs (run_jobs)   a resumed run also lists jobs that an earlier one answered
jobs 1-n launches          one row per process launch, failed attempts included
launches 1-n samples       one row per metric and subject, all raw values
leases                     who held a device when: a row when it is taken, renewed or given back
health                     what a device is fit for: a row when that changes, the last one counts

History of VERSION: 1 (0.1.0) first; 2 adds leases and health, nothing else changed.
"""

from sqlalchemy import Column, Float, ForeignKey, Integer, LargeBinary, MetaData, String, Table, Text

VERSION = 2

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

APPEND_ONLY = (schema_version, runs, run_events, jobs, run_jobs, launches, samples, leases, health)
