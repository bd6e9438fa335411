"""The time of scikit-learn's own predict, without a server.

Run with the model API's environment: estimator.py FOLDER
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from pathlib import Path

import mlflow.sklearn
import numpy as np

# An array has no names, which is the point.
warnings.simplefilter("ignore")

folder = Path(sys.argv[1])
table = np.asarray(json.loads((folder / "wine.json").read_text())["data"])
print("\n| scikit-learn's own `predict` of an array, CPU | 1 row | 100 rows |\n|---|---|---|")
for kind in ("linear", "forest"):
    model = mlflow.sklearn.load_model(folder / kind)
    cells = []
    for rows in (1, 100):
        array = table[:rows]
        model.predict(array)
        began, times = time.process_time(), 0
        while time.process_time() - began < 2:
            model.predict(array)
            times += 1
        cells.append(f"{(time.process_time() - began) / times * 1e6:,.0f} us")
    print(f"| {kind} | {' | '.join(cells)} |", flush=True)
