"""Metrics for Prometheus, summed over the worker processes.

Every process writes its numbers into files of a shared folder, as ``prometheus_client`` does once
``PROMETHEUS_MULTIPROC_DIR`` is set (by `model_api.http.server`, before this is imported). The
process that answers a scrape reads all of them. No label's value comes from a request: models,
versions and aliases get a label once they are loaded, and a key's label is its name.
"""

import os
from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead
from prometheus_client.registry import Collector

from model_api.model.untyped import JsonObject

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_BUCKETS = (
    *(0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05),
    *(0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0),
)


class Series:
    """The metrics of one version, looked up once, so that observing costs a microsecond or two."""

    def __init__(self, metrics: "Metrics", model: str, version: str) -> None:
        self.observe = metrics.seconds.labels(model, version).observe
        self._requests = metrics.requests
        self._labels = (model, version)
        self._counts: dict[tuple[str, int], Callable[[], None]] = {}

    def count(self, key: str, status: int) -> None:
        """Count one answer to the holder of the key with this name."""
        count = self._counts.get((key, status))
        if count is None:
            count = self._requests.labels(*self._labels, key, str(status)).inc
            self._counts[key, status] = count
        count()


class Metrics:
    """All metrics of this process."""

    def __init__(self) -> None:
        own = CollectorRegistry()
        self.seconds = Histogram(
            "model_api_prediction_seconds",
            "Time from a request's head to its answer, of answered predictions",
            ["model", "version"],
            buckets=_BUCKETS,
            registry=own,
        )
        self.requests = Counter(
            "model_api_requests",
            "Requested predictions; without model and version if none was found",
            ["model", "version", "key", "status"],
            registry=own,
        )
        self.problems = Counter(
            "model_api_problems",
            "Problems answered, including refusals by a limit",
            ["kind"],
            registry=own,
        )
        self._in_flight, self._running, self._waiting = (
            Gauge(f"model_api_{name}", text, multiprocess_mode="livesum", registry=own)
            for name, text in {
                "requests_in_flight": "Prediction requests being read or answered",
                "predictions_running": "Predictions in a thread",
                "predictions_waiting": "Predictions that wait for a thread",
            }.items()
        )
        self._keys_broken = Gauge(
            "model_api_keys_file_broken",
            "1 while the file of keys, or an entry in it, is invalid",
            multiprocess_mode="livemax",
            registry=own,
        )
        self._offered = Counter(
            "model_api_prediction_log_offered", "Requests in the sample", registry=own
        )
        self._dropped = Counter(
            "model_api_prediction_log_dropped",
            "Requests in the sample that were not logged",
            ["reason"],
            registry=own,
        )
        self._logged: Tally[str | None] = Tally()
        self.unfound = Series(self, "", "")

    def sample(self, *, in_flight: int, running: int, waiting: int, keys_broken: bool) -> None:
        """Update the gauges; to be called about every second."""
        self._in_flight.set(in_flight)
        self._running.set(running)
        self._waiting.set(waiting)
        self._keys_broken.set(keys_broken)

    def log(self, offered: int, dropped: dict[str, int]) -> None:
        """Update the prediction log's counts."""
        self._offered.inc(offered - self._logged[None])
        self._logged[None] = offered
        for reason, count in dropped.items():
            self._dropped.labels(reason).inc(count - self._logged[reason])
            self._logged[reason] = count


def expose(describe: Callable[[], JsonObject]) -> bytes:
    """Return the metrics of all processes, in Prometheus' text format.

    Args:
        describe: returns the answer of ``GET /models``.
    """
    folder = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])
    for file in folder.glob("gauge_live*_*.db"):
        pid = int(file.stem.rpartition("_")[2])
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            mark_process_dead(pid, str(folder))  # type: ignore[no-untyped-call]
        except PermissionError:
            pass
    registry = CollectorRegistry()
    _Files(registry, str(folder))  # type: ignore[no-untyped-call]
    registry.register(_Models(describe))
    return generate_latest(registry)


class _Files(MultiProcessCollector):
    """The processes' metrics, without files that are not complete yet.

    A process creates a file and then sets its size; `MultiProcessCollector` fails on a file that is
    still empty.
    """

    def collect(self) -> Iterable[Metric]:
        """Return the metrics from the files that have content."""
        files = []
        for file in Path(self._path).glob("*.db"):
            # The file of a process that has ended may be removed meanwhile.
            with suppress(FileNotFoundError):
                if file.stat().st_size:
                    files.append(str(file))
        merged: Iterable[Metric] = self.merge(files, accumulate=True)  # type: ignore[no-untyped-call]
        return merged


class _Models(Collector):
    """The metrics of the follower and the store, which are the same in every process."""

    def __init__(self, describe: Callable[[], JsonObject]) -> None:
        self._describe = describe

    def describe(self) -> Iterable[Metric]:
        """Return nothing, so that the registry does not collect on registration."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        listing = self._describe()
        now = datetime.now(UTC)
        loaded = GaugeMetricFamily(
            "model_api_loaded",
            "1 for the version that answers under an alias",
            labels=["model", "alias", "version", "engine"],
        )
        age = GaugeMetricFamily(
            "model_api_alias_age_seconds",
            "Time since the follower saw that the alias points to its version",
            labels=["model", "alias"],
        )
        failures = GaugeMetricFamily(
            "model_api_load_failures",
            "Failed attempts at the version that an alias points to, if it does not answer",
            labels=["model", "alias"],
        )
        up = GaugeMetricFamily("model_api_registry_up", "1 if the registry is reachable")
        polled = GaugeMetricFamily(
            "model_api_registry_age_seconds", "Time since the last poll of the registry"
        )
        for model in listing["models"]:
            for alias, status in model["aliases"].items():
                labels = [model["name"], alias]
                if (number := status["version"]) is not None:
                    engine = model["versions"][number]["engine"]
                    loaded.add_metric([*labels, number, engine], 1)
                failure = status["failure"]
                failures.add_metric(labels, failure["attempts"] if failure else 0)
                age.add_metric(labels, _seconds_since(status["moved_at"], now))
        up.add_metric([], listing["registry_error"] is None)
        if listing["polled_at"] is not None:
            polled.add_metric([], _seconds_since(listing["polled_at"], now))
        yield from (loaded, age, failures, up, polled)


def _seconds_since(then: str, now: datetime) -> float:
    return (now - datetime.fromisoformat(then)).total_seconds()
