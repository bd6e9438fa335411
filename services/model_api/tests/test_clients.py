"""MLflow's own clients, with only the URL and the credentials changed."""

from collections.abc import Iterator
from importlib.metadata import version

import httpx2 as httpx
import pandas as pd
import pytest
import requests
from mlflow.deployments import get_deploy_client
from mlflow.exceptions import MlflowException
from mlflow.pyfunc.scoring_server.client import ScoringServerClient
from serving import KEY, MemoryStore, MemoryVersion, served

ROWS = pd.DataFrame({"a": [1.5, 0.5], "n": [2, 3]})


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    store = MemoryStore(MemoryVersion("3"))
    with served(tmp_path_factory.mktemp("clients"), store) as client:
        yield client


def scoring_client(client: httpx.Client, key: str = KEY) -> ScoringServerClient:
    """Return the client of MLflow's scoring server, which takes a host and a port, not a URL."""
    url = client.base_url
    return ScoringServerClient(f"anybody:{key}@{url.host}", f"{url.port}/models/sum")


def test_the_client_of_the_scoring_server_predicts(client: httpx.Client) -> None:
    scoring = scoring_client(client)
    scoring.wait_server_ready(timeout=5)
    assert scoring.get_version() == version("mlflow-skinny")
    answer = scoring.invoke(ROWS)
    assert answer.get_predictions("ndarray").tolist() == [3.5, 3.5]


def test_the_client_of_deployments_predicts(client: httpx.Client) -> None:
    url = client.base_url
    deployments = get_deploy_client(f"http://anybody:{KEY}@{url.host}:{url.port}")
    body = {"dataframe_split": ROWS.to_dict(orient="split")}
    assert deployments.predict(endpoint="sum", inputs=body)["predictions"] == [3.5, 3.5]


def test_a_client_is_told_that_its_key_is_wrong(client: httpx.Client) -> None:
    wrong = KEY[::-1]
    with pytest.raises(Exception, match="error code 401"):
        scoring_client(client, wrong).ping()
    url = client.base_url
    deployments = get_deploy_client(f"http://anybody:{wrong}@{url.host}:{url.port}")
    with pytest.raises((MlflowException, requests.HTTPError), match="401"):
        deployments.predict(endpoint="sum", inputs={"inputs": [{"a": 1.5, "n": 2}]})


@pytest.mark.parametrize("below", ["", "/aliases/champion", "/versions/3"])
@pytest.mark.parametrize("last", ["ping", "health", "version"])
def test_a_model_is_probed_where_mlflow_has_its_probes(
    client: httpx.Client, below: str, last: str
) -> None:
    answer = client.get(f"/models/sum{below}/{last}")
    assert answer.status_code == 200
    assert answer.text == (version("mlflow-skinny") if last == "version" else "\n")


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/models/none/ping", 404),
        ("/models/sum/aliases/none/ping", 404),
        ("/models/sum/versions/9/ping", 503),
    ],
)
def test_a_model_that_does_not_serve_fails_its_probe(
    client: httpx.Client, path: str, status: int
) -> None:
    assert client.get(path).status_code == status


def test_a_probe_needs_a_key(client: httpx.Client) -> None:
    assert httpx.get(str(client.base_url.join("/models/sum/ping"))).status_code == 401
