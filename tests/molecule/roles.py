"""Print each role that Molecule tests with the host that it is tested on, in the order of testing.

The roles of services and their hosts come from the catalogue of services.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from catalogue import CATALOGUE

# The roles that are no services.
OTHERS = {"base": "base", "databases": "mlflow"}
HOSTS = OTHERS | {role: entry["test"] for role, entry in CATALOGUE.items()}

if __name__ == "__main__":
    for role, host in HOSTS.items():
        print(role, host)
