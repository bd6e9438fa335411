"""Run the whole wine pipeline in this process: ``python -m lastro_pipelines``."""

import argparse
import json
import sys
from contextlib import redirect_stdout
from datetime import UTC, datetime

from lastro_pipelines import comparing, steps
from lastro_pipelines.candidates import CANDIDATES


def main(argv: list[str] | None = None) -> None:
    """Run every step and print the summary as JSON."""
    parser = argparse.ArgumentParser(prog="lastro-wine", description=__doc__)
    parser.add_argument("--run-id", help="unique name of the run (default: the current time)")
    parser.add_argument("--source", help="CSV file to use instead of scikit-learn's wine data")
    parser.add_argument("--experiment", default=steps.EXPERIMENT)
    parser.add_argument("--model-name", default=steps.MODEL_NAME)
    parser.add_argument(
        "--margin",
        type=float,
        default=comparing.MARGIN,
        help="promote only if the log loss falls by more, in nats per row (default: %(default)s)",
    )
    options = parser.parse_args(argv)

    run_id = options.run_id or f"manual__{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}"
    where = {"source": options.source, "experiment": options.experiment}
    # MLflow prints links to standard output, which is reserved for the summary.
    with redirect_stdout(sys.stderr):
        dataset_hash = steps.validate(run_id, **where)["dataset_hash"]
        trained = [
            steps.train(name, run_id, dataset_hash=dataset_hash, **where) for name in CANDIDATES
        ]
        summary = steps.register_and_promote(
            trained,
            run_id,
            dataset_hash=dataset_hash,
            model_name=options.model_name,
            margin=options.margin,
            **where,
        )
    print(json.dumps(summary, indent=2))


if __name__ == "__main__":
    main()
