"""The compared servers: how each is started, and the requests that it gets."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

HERE = Path(__file__).parent
PROJECT = HERE.parents[2]
sys.path.insert(0, str(PROJECT / "tests"))
from environments import environment, version_environment  # noqa: E402

KEY = secrets.token_hex(32)
# No server may take the other's core for its own arithmetic.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
PEERS = {
    "mlflow": "locks/bench/mlflow.txt",
    "bentoml": "locks/bench/bentoml.txt",
    "litserve": "locks/bench/litserve.txt",
}
TICKS = os.sysconf("SC_CLK_TCK")


def model_api_environment() -> Path:
    """The bin/ of the environment that serves, trains the models and asks at a fixed rate."""
    project = PROJECT / "services/model_api"
    locks = PROJECT / "locks/model_api.txt", PROJECT / "locks/test.txt"
    return environment("model_api", *locks, projects=[project])


def peer_environment(name: str) -> Path:
    """The bin/ of the environment of a server that ours is compared with."""
    return environment(f"bench-{name}", PROJECT / PEERS[name])


@dataclass(frozen=True)
class Server:
    """A running server: the requests that it takes, and the processes that were started for it.

    ``split`` tells whether rows go as ``dataframe_split``; ``text``, whether with numbers as text,
    which only MLflow's own code reads.
    """

    name: str
    port: int
    path: str
    headers: dict[str, str]
    roots: tuple[int, ...]
    split: bool = True
    text: bool = False

    def body(self, frame: dict) -> bytes:
        """Return a request for rows given as ``{"columns": [...], "data": [[...]]}``."""
        if self.text:
            frame = frame | {"data": [list(map(str, row)) for row in frame["data"]]}
        return json.dumps(
            {"dataframe_split": frame} if self.split else {"rows": frame["data"]}
        ).encode()

    def cpu_seconds(self) -> float:
        """CPU time that its processes have used."""
        return sum(map(sum, (_times(pid) for pid in self.pids()))) / TICKS

    def memory_mib(self) -> float:
        """Memory of its processes, what they share counted once (PSS)."""
        total = 0
        for pid in self.pids():
            with suppress(OSError):
                for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                    if line.startswith("Pss:"):
                        total += int(line.split()[1])
        return total / 1024

    def pids(self) -> list[int]:
        """Its processes: those that were started, and what they started."""
        parents = {}
        for folder in Path("/proc").iterdir():
            if folder.name.isdecimal():
                with suppress(OSError):
                    # The fields after the command's name, which may hold anything.
                    fields = (folder / "stat").read_text().rpartition(")")[2].split()
                    parents[int(folder.name)] = int(fields[1])
        found = list(self.roots)
        for pid in found:
            found.extend(child for child, parent in parents.items() if parent == pid)
        return found


def _times(pid: int) -> tuple[int, ...]:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return (0,)
    # Its own, and those of its children that have ended.
    return tuple(map(int, fields[11:15]))


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def ask(port: int, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
    """Ask once; status 0 if nothing answers."""
    headers = {"Content-Type": "application/json"} | headers
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
    except OSError:
        return 0, b""


@contextmanager
def process(log: Path, *argv: str | Path, **variables: str) -> Iterator[subprocess.Popen]:
    """Run a process in a session of its own until the block ends."""
    with log.open("ab") as sink:
        child = subprocess.Popen(
            argv,
            cwd=log.parent,
            env=os.environ | ONE_THREAD | {"MLFLOW_DISABLE_TELEMETRY": "true"} | variables,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            start_new_session=True,
        )
    try:
        yield child
    finally:
        # LitServe's children outlive a polite signal.
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def wait_for(what: str, condition: object, child: subprocess.Popen, log: Path) -> None:
    """Wait until a server answers; end the bench with its log if it does not."""
    deadline = time.monotonic() + 300
    while not condition():
        if child.poll() is not None or time.monotonic() > deadline:
            sys.exit(f"{what} did not come up:\n{log.read_text()[-4000:]}")
        time.sleep(0.2)


@contextmanager
def registry(folder: Path, models: Path, copies: int) -> Iterator[str]:
    """Run an MLflow server whose registry has ``copies`` of each model, no champions; its URL."""
    port, log = free_port(), folder / "registry.log"
    settings = {
        "MLFLOW_BACKEND_STORE_URI": f"sqlite:///{folder}/mlflow.db",
        "MLFLOW_ARTIFACTS_DESTINATION": str(folder / "artifacts"),
        "MLFLOW_HOST": "127.0.0.1",
        "MLFLOW_PORT": str(port),
        "MLFLOW_WORKERS": "1",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    with process(log, version_environment("mlflow") / "mlflow", "server", **settings) as child:
        wait_for("MLflow", lambda: ask(port, "/health")[0] == 200, child, log)
        url = f"http://127.0.0.1:{port}"
        subprocess.run(
            [
                *(model_api_environment() / "python", HERE / "models.py"),
                *("register", models, url, str(copies)),
            ],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        yield url


def promote(url: str, name: str, version: str | None) -> None:
    """Make the version the champion; None: no version is."""
    method = "POST" if version else "DELETE"
    body = {"name": name, "alias": "champion"} | ({"version": version} if version else {})
    request = urllib.request.Request(
        f"{url}/api/2.0/mlflow/registered-models/alias",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
        method=method,
    )
    with urllib.request.urlopen(request, timeout=30):
        pass


@contextmanager
def champions(url: str, names: list[str]) -> Iterator[None]:
    """Let the first versions of these models be champions while the block runs."""
    for name in names:
        promote(url, name, "1")
    try:
        yield
    finally:
        for name in names:
            promote(url, name, None)


@contextmanager
def lastro(folder: Path, url: str, models: list[str], compiled: bool) -> Iterator[Server]:
    """Run the model API as its units do: one worker and the follower.

    Args:
        folder: for its state and logs.
        url: the registry.
        models: have a champion, and must serve before the block begins.
        compiled: whether models may be compiled.
    """
    name = "Lastro, compiled" if compiled else "Lastro, native"
    folder = folder / ("compiled" if compiled else "native")
    folder.mkdir()
    keys = folder / "keys.json"
    # A rate that is never reached, so that its check is paid for.
    keys.write_text(
        json.dumps([{"name": "bench", "key": KEY, "requests_per_second": 1e6, "burst": 1_000_000}])
    )
    port, python = free_port(), model_api_environment() / "python"
    settings = {
        "MLFLOW_TRACKING_URI": url,
        "MODEL_API_KEYS_FILE": str(keys),
        "MODEL_API_PORT": str(port),
        "MODEL_API_WORKERS": "1",
        "MODEL_API_STATE_DIRECTORY": str(folder),
        "MODEL_API_RUNNERS_DIRECTORY": str(folder / "runners"),
        "MODEL_API_COMPILE": str(compiled).lower(),
    }
    headers = {"Authorization": f"Bearer {KEY}"}
    log = folder / "log"

    def serves() -> bool:
        return all(
            ask(port, f"/models/{model}/predict", b"{}", **headers)[0] == 422 for model in models
        )

    with (
        process(log, python, "-m", "model_api.follower", **settings) as follower,
        process(log, python, "-m", "model_api.runners", **settings) as keeper,
        process(log, python, "-m", "model_api", **settings) as workers,
    ):
        wait_for(name, serves, workers, log)
        yield Server(
            name,
            port,
            f"/models/{models[0]}/predict",
            headers,
            (workers.pid, follower.pid, keeper.pid),
        )


@contextmanager
def peer(name: str, folder: Path, model: Path) -> Iterator[Server]:
    """Run one of the others with one model: ``mlflow``, ``bentoml``, ``litserve`` or ``floor``."""
    port = free_port()
    log = folder / f"{name}-{model.name}.log"
    variables = {"BENCH_MODEL": str(model)}
    match name:
        case "mlflow":
            title, path = "`mlflow models serve`", "/invocations"
            bin_folder = peer_environment("mlflow")
            argv = [bin_folder / "mlflow", "models", "serve", "--model-uri", model]
            argv += ["--env-manager", "local", "--port", str(port), "--workers", "1"]
            variables["PATH"] = f"{bin_folder}:{os.environ['PATH']}"
        case "bentoml":
            title, path = "BentoML", "/predict"
            argv = [peer_environment("bentoml") / "bentoml", "serve", "bentoml_service:Scorer"]
            argv += ["--host", "127.0.0.1", "--port", str(port)]
            argv += ["--working-dir", HERE / "peers"]
            variables["BENTOML_DO_NOT_TRACK"] = "true"
        case "litserve":
            title, path = "LitServe", "/predict"
            argv = [peer_environment("litserve") / "python", HERE / "peers/litserve_server.py"]
            argv += [str(port)]
        case "floor":
            title, path = "FastAPI answering a constant", "/predict"
            argv = [model_api_environment() / "python", HERE / "peers/floor.py", str(port)]
    headers = {"Content-Type": "application/json"}
    split = name in ("mlflow", "floor")
    with process(log, *map(str, argv), **variables) as child:
        server = Server(title, port, path, headers, (child.pid,), split)
        body = server.body(sample(model.parent, 1))
        wait_for(title, lambda: ask(port, path, body, **headers)[0] == 200, child, log)
        yield server


def sample(models: Path, rows: int) -> dict:
    """That many of the wines in the models' folder, as MLflow's ``dataframe_split``."""
    table = json.loads((models / "wine.json").read_text())
    return {"columns": table["columns"], "data": [table["data"][n % 178] for n in range(rows)]}


@contextmanager
def all_servers(folder: Path, models: Path, url: str, kind: str) -> Iterator[list[Server]]:
    """Run every server with one kind of model."""
    with ExitStack() as stack:
        stack.enter_context(champions(url, [f"{kind}-0"]))
        servers = [
            stack.enter_context(lastro(folder, url, [f"{kind}-0"], compiled))
            for compiled in (True, False)
        ]
        lenient = {"path": f"/models/{kind}-0/invocations", "text": True}
        servers.append(replace(servers[0], name="Lastro, compiled, numbers as text", **lenient))
        servers += [
            stack.enter_context(peer(name, folder, models / kind))
            for name in ("mlflow", "bentoml", "litserve", "floor")
        ]
        yield servers
