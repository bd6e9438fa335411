"""Measure serving: Lastro's model API and other servers, on this machine, in one run.

Usage: make bench-serving [PART=promotion] [ROUNDS=3] [DURATION=4]

Prints the README's tables. Every server has one worker, one thread and the same model files. They
are all up at the same time and asked in turn, round by round, so that a slow minute of the machine
is everybody's; of the rounds the median counts. CPU is that of all the server's processes.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from servers import (
    HERE,
    Server,
    all_servers,
    ask,
    champions,
    lastro,
    model_api_environment,
    peer,
    promote,
    registry,
    sample,
)

ROUNDS = int(os.environ.get("ROUNDS", "3"))
DURATION = int(os.environ.get("DURATION", "4"))
PARTS = ("speed", "promotion", "memory")
CASES = [(connections, rows) for rows in (1, 100) for connections in (1, 8)]

WRK_SCRIPT = """\
wrk.method = "POST"
wrk.body = io.open("{body}"):read("*a")
{headers}
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format("RESULT %d %d %d %.1f %.1f\\n", summary.requests, summary.duration,
    e.connect + e.read + e.write + e.status + e.timeout,
    latency:percentile(50), latency:percentile(99)))
end
"""


@dataclass(frozen=True)
class Measured:
    """One closed-loop measurement; latencies in ms, CPU in us a request."""

    per_second: float
    p50: float
    p99: float
    cpu: float


def closed_loop(server: Server, body: bytes, connections: int, folder: Path) -> Measured:
    """Ask as fast as the answers come; a failed request ends the bench."""
    (folder / "body.json").write_bytes(body)
    headers = {"Content-Type": "application/json"} | server.headers
    script = folder / "wrk.lua"
    script.write_text(
        WRK_SCRIPT.format(
            body=folder / "body.json",
            headers="\n".join(
                f'wrk.headers["{key}"] = "{value}"' for key, value in headers.items()
            ),
        )
    )
    url = f"http://127.0.0.1:{server.port}{server.path}"
    before = server.cpu_seconds()
    output = subprocess.run(
        ["wrk", "-t1", f"-c{connections}", f"-d{DURATION}s", "-s", str(script), url],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    used = server.cpu_seconds() - before
    found = re.search(r"^RESULT (\d+) (\d+) (\d+) ([\d.]+) ([\d.]+)$", output, re.MULTILINE)
    if not found or int(found[3]):
        sys.exit(f"{server.name} failed requests:\n{output}")
    requests, microseconds = int(found[1]), int(found[2])
    return Measured(
        requests / microseconds * 1e6,
        float(found[4]) / 1e3,
        float(found[5]) / 1e3,
        used / requests * 1e6,
    )


def median(rounds: list[Measured]) -> Measured:
    """Return the median of each figure."""
    return Measured(
        *(
            statistics.median(getattr(r, field) for r in rounds)
            for field in Measured.__annotations__
        )
    )


def speed(kind: str, folder: Path, models: Path, url: str) -> None:
    """Print one table a kind of model: every server, every case."""
    results: dict[tuple[str, int, int], list[Measured]] = {}
    with all_servers(folder, models, url, kind) as servers:
        for number in range(ROUNDS + 1):
            for connections, rows in CASES:
                for server in servers:
                    body = server.body(sample(models, rows))
                    measured = closed_loop(server, body, connections, folder)
                    # The first round warms.
                    if number:
                        results.setdefault((server.name, connections, rows), []).append(measured)
            say(f"{kind}: round {number} of {ROUNDS}" if number else f"{kind}: warm")
        names = [server.name for server in servers]
    print(f"\n**{TITLES[kind]}**\n")
    print("| | " + " | ".join(_case(c, r) for c, r in CASES) + " |")
    print("|---|" + "---|" * len(CASES))
    for name in names:
        cells = []
        for case in CASES:
            one = median(results[name, *case])
            base = median(results["`mlflow models serve`", *case])
            cells.append(
                f"{one.per_second:,.0f}/s ({one.per_second / base.per_second:.1f}x), "
                f"{one.cpu:,.0f} us ({base.cpu / one.cpu:.1f}x), {one.p50:.2f} / {one.p99:.2f} ms"
            )
        print(f"| {name} | " + " | ".join(cells) + " |")
    print(flush=True)


TITLES = {
    "linear": "Logistic regression, 13 numbers",
    "forest": "Forest of 100 trees, 13 numbers",
}


def _case(connections: int, rows: int) -> str:
    return (
        f"{connections} connection{'s' if connections > 1 else ''}, "
        f"{rows} row{'s' if rows > 1 else ''}"
    )


def estimator(models: Path) -> None:
    """Print what scikit-learn's own predict takes, in a process of nothing else."""
    subprocess.run([model_api_environment() / "python", HERE / "estimator.py", models], check=True)


# ---- promotion under load ------------------------------------------------------------------------


def open_loop(
    server: Server, rate: float, seconds: float, folder: Path, models: Path
) -> list[tuple[float, float, int, str | None]]:
    """Ask at a rate; one (due, answered, status, version) a request."""
    body = server.body(sample(models, 1))
    headers = {"Content-Type": "application/json", "Content-Length": str(len(body))}
    lines = [f"POST {server.path} HTTP/1.1", "Host: localhost"]
    lines += [f"{key}: {value}" for key, value in (headers | server.headers).items()]
    request, result = folder / "request", folder / "answers"
    request.write_bytes("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
    subprocess.run(
        [
            *(model_api_environment() / "python", HERE / "open_loop.py"),
            *(str(server.port), str(rate), str(seconds), request, result),
        ],
        check=True,
    )
    return [tuple(json.loads(line)) for line in result.read_text().splitlines()]


def p99(answers: list) -> float:
    """Return the 99th percentile of the time from due to answered, ms."""
    waits = sorted(answered - due for due, answered, *_ in answers)
    return waits[int(len(waits) * 0.99)] * 1e3


def promotion(folder: Path, models: Path, url: str) -> bool:
    """Move the alias 12 times within a minute of load; tell whether no request was lost."""
    poll = 2.0
    with (
        champions(url, ["linear-0"]),
        lastro(folder, url, ["linear-0"], compiled=True) as server,
    ):
        capacity = closed_loop(server, server.body(sample(models, 1)), 8, folder).per_second
        rate = 0.7 * capacity
        # Both have served once, as in the life of two versions that take turns.
        for version in ("2", "1"):
            promote(url, "linear-0", version)
            while served(server) != version:
                time.sleep(0.1)
        say(f"promotion: steady, {rate:,.0f} requests a second")
        steady = open_loop(server, rate, 30, folder, models)
        moves = [(time.time() - 3600, "1")]
        targets = ["2", "1", "3", "2", "1", "2", "3", "1", "2", "1", "2", "1"]

        def mover() -> None:
            for target in targets:
                time.sleep(4.8)
                promote(url, "linear-0", target)
                moves.append((time.time(), target))

        thread = threading.Thread(target=mover)
        thread.start()
        say("promotion: a minute with 12 moves of the alias, 2 of them to a broken version")
        moving = open_loop(server, rate, 60, folder, models)
        thread.join()
    failed = [a for a in steady + moving if a[2] != 200]
    late = [a for a in moving if a[2] == 200 and not _was_champion(a, moves, poll)]
    print("\n**Promotion under load**\n")
    print("| | |\n|---|---|")
    print(f"| load | {rate:,.0f} requests a second, 70% of capacity |")
    print(f"| failed requests | {len(failed)} of {len(steady) + len(moving):,} |")
    print(f"| versions that answered | {', '.join(sorted({a[3] for a in moving if a[3]}))} |")
    print(f"| answers of a version that was not champion within the last poll | {len(late)} |")
    print(f"| p99 steady, moving | {p99(steady):.2f} ms, {p99(moving):.2f} ms "
          f"({p99(moving) / p99(steady):.2f}x) |")  # fmt: skip
    print(flush=True)
    return not failed and not late


def served(server: Server) -> str:
    """Return the version that answers."""
    listing = json.loads(ask(server.port, "/models", None, **server.headers)[1])
    model = next(m for m in listing["models"] if m["name"] == "linear-0")
    return model["aliases"]["champion"]["version"]


def _was_champion(answer: tuple, moves: list[tuple[float, str]], poll: float) -> bool:
    """Whether the version was the last sound champion at some time within the last poll.

    A poll, and a quarter of a second for the workers to see what it found.
    """
    due, answered, _, version = answer
    sound = [(at, target) for at, target in moves if target != "3"]
    for number, (at, target) in enumerate(sound):
        end = sound[number + 1][0] if number + 1 < len(sound) else float("inf")
        if target == version and at <= answered and end >= due - poll - 0.25:
            return True
    return False


# ---- memory --------------------------------------------------------------------------------------


def memory(folder: Path, models: Path, url: str, copies: int) -> None:
    """Print the memory of the processes that answer, with one model and with many."""
    print("\n**Memory**\n")
    print(f"| | 1 model | {copies} models | a further model |\n|---|---|---|---|")
    for kind in TITLES:
        for compiled in (True, False):
            used = []
            for count in (1, copies):
                place = folder / f"memory-{kind}-{compiled}-{count}"
                place.mkdir()
                names = [f"{kind}-{number}" for number in range(count)]
                with champions(url, names), lastro(place, url, names, compiled) as server:
                    body = server.body(sample(models, 1))
                    for name in names:
                        ask(server.port, f"/models/{name}/predict", body, **server.headers)
                    used.append(server.memory_mib())
            more = (used[1] - used[0]) / (copies - 1)
            print(f"| {TITLES[kind]}: Lastro, {'compiled' if compiled else 'native'} "
                  f"| {used[0]:.0f} MiB | {used[1]:.0f} MiB | {more:.1f} MiB |")  # fmt: skip
        with peer("mlflow", folder, models / kind) as server:
            one = server.memory_mib()
        print(f"| {TITLES[kind]}: `mlflow models serve`, a server a model "
              f"| {one:.0f} MiB | {one * copies:.0f} MiB | {one:.0f} MiB |")  # fmt: skip
    print(flush=True)


def say(text: str) -> None:
    """Show progress, away from the tables."""
    print(f"==> {text}", file=sys.stderr, flush=True)


def main(parts: list[str]) -> int:
    """Run everything, or the parts that are named; 1 if a request was lost."""
    parts = parts or list(PARTS)
    if unknown := set(parts) - set(PARTS):
        sys.exit(f"bench-serving: no part {min(unknown)!r}. Choose one of: {', '.join(PARTS)}")
    if not shutil.which("wrk"):
        sys.exit("bench-serving: wrk is not installed; on Debian and Ubuntu: sudo apt install wrk")
    copies, kept = 10, True
    with tempfile.TemporaryDirectory(prefix="lastro-bench-") as name:
        folder = Path(name)
        models = folder / "models"
        say("Training the models")
        python = model_api_environment() / "python"
        subprocess.run(
            [python, HERE / "models.py", "save", models], check=True, stderr=subprocess.DEVNULL
        )
        with registry(folder, models, copies) as url:
            if "speed" in parts:
                for kind in TITLES:
                    (folder / kind).mkdir()
                    speed(kind, folder / kind, models, url)
                estimator(models)
            if "promotion" in parts:
                kept = promotion(folder, models, url)
            if "memory" in parts:
                memory(folder, models, url, copies)
    return int(not kept)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
