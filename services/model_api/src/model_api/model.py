"""One version of a model, in memory."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd
from pydantic_core import from_json

from model_api.schema import RowSchema


class RehearsalError(RuntimeError):
    """A model failed on its own input example, so it is not fit to serve."""


@dataclass(frozen=True)
class Model:
    """A loaded version.

    Attributes:
        name: of the registered model.
        version: its number, as MLflow writes it.
        run_id: the run that trained it, if one did.
        schema: the rows that it takes.
        estimator: takes the schema's frame, returns one prediction a row.
        probabilities: the same for one mapping of class to probability a row; None if the model
            is no classifier, or tells none.
        example: input rows that were logged with the model.
        since: when it was loaded.
    """

    name: str
    version: str
    run_id: str | None
    schema: RowSchema
    estimator: Callable[[pd.DataFrame], Any]
    probabilities: Callable[[pd.DataFrame], list[dict[str, float]]] | None
    example: pd.DataFrame | None
    since: datetime = field(default_factory=lambda: datetime.now(UTC))

    def predict(self, frame: pd.DataFrame) -> list[Any]:
        """Return one JSON value a row."""
        answer = self.estimator(frame)
        if isinstance(answer, pd.DataFrame):
            return answer.to_dict(orient="records")
        return answer.tolist() if isinstance(answer, np.ndarray | pd.Series) else list(answer)

    def example_rows(self) -> list[dict[str, Any]]:
        """Return the input example as the rows of a request; none if there is no example."""
        if self.example is None:
            return []
        return from_json(self.example.to_json(orient="records", date_format="iso"))

    def rehearse(self) -> None:
        """Predict the model's own input example, the way that a request would.

        It also warms the model: the first prediction is the slowest.

        Raises:
            RehearsalError: there is no example, or it does not come out as one value a row.
        """
        if self.example is None or self.example.empty:
            raise RehearsalError("it has no input example: log it with input_example=<DataFrame>")
        try:
            frame = self.schema.frame(self.example_rows())
            count = len(self.predict(frame))
            if self.probabilities is not None:
                self.probabilities(frame)
        except Exception as error:
            raise RehearsalError(f"it fails on its own input example: {error}") from error
        if count != len(frame):
            raise RehearsalError(
                f"it answers the {len(frame)} rows of its input example with {count} predictions"
            )
