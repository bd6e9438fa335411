"""The input example of a model: as a request's body, and as its rows."""

from pathlib import Path

from model_api.model.batch import Batch
from model_api.model.decoding import Decoder
from model_api.model.errors import RequestError
from model_api.model.untyped import MlflowModel, Value
from model_api.model.words import first_line
from model_api.preparing import gaps
from model_api.preparing.errors import PrepareError


def request_of(description: MlflowModel, path: Path) -> str | None:
    """Return the input example as a request's body; None if the model has none."""
    from mlflow.models import convert_input_example_to_serving_input

    try:
        request = description.get_serving_input(str(path))
        if request is None and description.saved_input_example_info is not None:
            request = convert_input_example_to_serving_input(
                description.load_input_example(str(path))
            )
    except Exception as error:
        raise PrepareError(f"its input example cannot be read: {first_line(error)}") from error
    return request or None


def decode(decoder: Decoder, request: str) -> Batch:
    """Return the rows of an input example; a required column of floats may lack values in it.

    The signature may be inferred from other rows. The next step checks whether the model answers
    such a row.
    """
    body = request.encode()
    try:
        return decoder.decode(body, 10**9)
    except RequestError:
        if decoder.tensors:
            raise
        try:
            return gaps.relaxed(decoder).decode(body, 10**9)
        except RequestError:
            pass
        raise


def rows_of(batch: Batch) -> Value:
    """Return the rows as JSON values: a list of objects, or tensors as nested lists."""
    columns = batch.columns()
    tensors = batch.tensors()
    if tensors is not None:
        nested = {name: tensor.tolist() for name, tensor in tensors.items()}
        return nested.get(None, nested)
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
