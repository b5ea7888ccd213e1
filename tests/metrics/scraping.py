"""Asks a pipeline's server over real HTTP, as Prometheus and probes do."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from pipeline.config.load import config_from_mapping
from pipeline.pipeline import Pipeline


def ask(port: int, path: str, host: str = "127.0.0.1", method: str = "GET", **headers: str) -> tuple[int, str]:
    """Make one request; return status and body."""
    connection = http.client.HTTPConnection(host, port, timeout=10)
    try:
        connection.request(method, path, headers=headers)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def health(port: int) -> dict[str, Any]:
    """Return /healthz."""
    return dict(json.loads(ask(port, "/healthz")[1]))


def families(text: str) -> dict[str, Metric]:
    """Return what /metrics says, by the name that its samples have (counters end in _total)."""
    found = text_string_to_metric_families(text)
    return {f"{family.name}_total" if family.type == "counter" else family.name: family for family in found}


def values(text: str) -> dict[tuple[Any, ...], float]:
    """Return ``(sample name, label, value, label, value, ...)`` -> value; labels in alphabetical order."""
    return {
        (sample.name, *(part for label in sorted(sample.labels.items()) for part in label)): sample.value
        for family in families(text).values()
        for sample in family.samples
    }


@contextmanager
def running(model: Path, *urls: str, **sections: Any) -> Iterator[Pipeline]:
    """A running pipeline whose streams are s0, s1, ..., with its server on a free port."""
    data = {
        "streams": [{"id": f"s{number}", "url": url, "realtime": True} for number, url in enumerate(urls)],
        "infer": {"model": str(model), "runtime": "cpu", "threads": 2},
        "metrics": {"listen": "127.0.0.1:0"},
        **sections,
    }
    with Pipeline(config_from_mapping(data, origin="test")) as pipeline:
        pipeline.start()
        yield pipeline


def port_of(pipeline: Pipeline) -> int:
    """Where the pipeline's server listens."""
    assert pipeline.metrics.server is not None
    return pipeline.metrics.server.port


def wait_until(condition: Any, what: str, within_seconds: float = 15.0) -> None:
    """Wait until ``condition()`` holds."""
    until = time.monotonic() + within_seconds
    while not condition():
        assert time.monotonic() < until, f"not within {within_seconds} s: {what}"
        time.sleep(0.05)
