"""Tell CloudWatch how many requests the edge answered with a 5xx status in the last whole minute.

It counts the access records in the edge's journal, which outlive the proxy: a restart loses none.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterable

import boto3
from botocore.config import Config

# A try that lasts into the next minute would only add to what keeps it from succeeding.
PATIENCE = Config(connect_timeout=5, read_timeout=5, retries={"total_max_attempts": 4})


def server_errors(lines: Iterable[str]) -> int:
    """How many of the journal's lines are access records with a 5xx status."""
    count = 0
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            # systemd's own words about the unit.
            continue
        if (
            isinstance(record, dict)
            and str(record.get("logger")).startswith("http.log.access")
            and 500 <= record.get("status", 0) <= 599
        ):
            count += 1
    return count


def journal(start: int, end: int) -> Iterable[str]:
    """The edge's journal between two times, in seconds since the epoch."""
    command = ["journalctl", "--quiet", "--no-pager", "--output=cat", "--unit=edge.service"]
    command += [f"--since=@{start}", f"--until=@{end}"]
    # A client may put any byte into the path that it asks for.
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, encoding="utf-8", errors="replace"
    ) as process:
        assert process.stdout is not None
        yield from process.stdout
    if process.returncode != 0:
        sys.exit(f"journalctl ended with status {process.returncode}")


def main() -> None:
    """Count, and send one datum."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--namespace", required=True)
    parser.add_argument("--dimension", action="append", default=[], metavar="NAME=VALUE")
    arguments = parser.parse_args()

    end = int(time.time()) // 60 * 60
    start = end - 60
    dimensions = [dimension.split("=", 1) for dimension in arguments.dimension]
    boto3.client("cloudwatch", config=PATIENCE).put_metric_data(
        Namespace=arguments.namespace,
        MetricData=[
            {
                "MetricName": "Edge5xx",
                "Dimensions": [{"Name": name, "Value": value} for name, value in dimensions],
                "Timestamp": start,
                "Value": server_errors(journal(start, end)),
                "Unit": "Count",
            }
        ],
    )


if __name__ == "__main__":
    main()
