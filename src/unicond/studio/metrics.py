"""What `/metrics` tells, in the manner of Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)


class Metrics:
    """Counters of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.accepted = Counter(
            "unicond_jobs_accepted", "Jobs that were queued.", ["task"], registry=self.registry
        )
        self.ended = Counter(
            "unicond_jobs_ended",
            "Jobs that have ended.",
            ["task", "status"],
            registry=self.registry,
        )
        self.refused = Counter(
            "unicond_refused", "Requests that were refused.", ["code"], registry=self.registry
        )
        self.crashes = Counter(
            "unicond_worker_crashes", "Workers that ended by themselves.", registry=self.registry
        )
        self.jobs = Gauge(
            "unicond_jobs", "Jobs that wait or run.", ["status"], registry=self.registry
        )
        self.waited = Histogram(
            "unicond_job_wait_seconds",
            "From the request to the start.",
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.took = Histogram(
            "unicond_job_seconds",
            "From the start to the end.",
            ["task"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.together = Histogram(
            "unicond_jobs_together",
            "Jobs made in one call, counted once for each of them.",
            buckets=(1, 2, 4, 8, 16),
            registry=self.registry,
        )

    def text(self) -> bytes:
        """All of them as text."""
        return generate_latest(self.registry)
