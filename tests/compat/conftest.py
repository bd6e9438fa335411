"""Both servers, once for all tests; and the seed of random requests."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# The helpers of the model API's own tests.
sys.path.append(str(Path(__file__).parents[2] / "services/model_api/tests"))

SEED = int(os.environ.get("LASTRO_SEED") or random.SystemRandom().randrange(2**32))


def pytest_report_header() -> str:
    return f"LASTRO_SEED={SEED} repeats what is drawn"


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    # Only now, as it loads MLflow and the libraries of all models.
    from servers import Servers

    both = Servers(tmp_path_factory.mktemp("models"))
    yield both
    both.close()
