"""The slow reading of a body with tensors."""

from typing import Any

import msgspec
import numpy as np

from model_api.model.batch import Batch, as_tensor
from model_api.model.checking import check_tensor
from model_api.model.decoding.reading import Reader
from model_api.model.errors import InvalidBody, TooManyRows
from model_api.model.faults import Faults, Names
from model_api.model.signature import Tensor, tensor_type
from model_api.model.untyped import Value
from model_api.model.words import short


def explain_tensors(
    reader: Reader, name: str, content: Value, faults: Faults, max_rows: int
) -> Batch:
    """Return the tensors of a body, or say what is wrong with them.

    Args:
        reader: the model's reader.
        name: the body's format.
        content: the content in that format.
        faults: collects the faults; raised as InvalidRows.
        max_rows: the most rows of the body.

    Raises:
        RequestError: see `Decoder.decode`.
    """
    given: dict[Any, Any]
    known = Names(tensor.name for tensor in reader.tensors if tensor.name is not None)
    if name == "dataframe_records":
        raise InvalidBody("the model takes tensors: send them as inputs or instances")
    if isinstance(content, list) and content and isinstance(content[0], dict) and reader.named:
        given = {n: [] for n in known}
        for row, record in enumerate(content):
            if not isinstance(record, dict):
                faults.add(row, None, f"must be an object, not {short(record)}")
                continue
            faults.add_unknown(row, record, known)
            for required in known:
                if required in record:
                    given[required].append(record[required])
                else:
                    faults.add(row, required, "is missing")
        faults.raise_any()
    elif isinstance(content, dict) and reader.named:
        given = content
        for missing in known - content.keys():
            faults.add(None, missing, "is missing")
        faults.add_unknown(None, content, known)
        faults.raise_any()
    elif len(reader.tensors) == 1:
        given = {reader.tensors[0].name: content}
    else:
        raise InvalidBody(
            f"{name} must be an object with the tensors {', '.join(map(str, sorted(known)))}"
        )
    arrays = {}
    for tensor in reader.tensors:
        if given[tensor.name] == []:
            raise InvalidBody(f"{tensor.name or name} has no rows: send at least one")
        if not isinstance(given[tensor.name], list):
            faults.add(None, tensor.name, f"must be a list, not {short(given[tensor.name])}")
            continue
        if len(given[tensor.name]) > max_rows:
            raise TooManyRows(len(given[tensor.name]), max_rows)
        for row, value in enumerate(given[tensor.name]):
            if not _plainly_right(tensor, value):
                check_tensor(tensor, row, value, faults)
        lead = tensor.shape[0]
        if lead not in (-1, len(given[tensor.name])):
            faults.add(None, tensor.name, f"must have {lead} rows, not {len(given[tensor.name])}")
        if not faults.count:
            try:
                arrays[tensor.name] = as_tensor(tensor, given[tensor.name])
            except (ValueError, OverflowError) as error:
                faults.add(None, tensor.name, str(error))
    faults.raise_any()
    if len({len(array) for array in arrays.values()}) > 1:
        raise InvalidBody("the tensors have different numbers of rows")
    return Batch(reader.layout, len(next(iter(arrays.values()))), tensors=arrays)


def _plainly_right(tensor: Tensor, value: Any) -> bool:
    """Tell whether one row of a tensor is valid, at little cost."""
    row = Tensor(tensor.name, tensor.dtype, tensor.shape[1:])
    try:
        msgspec.convert(value, tensor_type(row))
        array = as_tensor(row, value)
    except (msgspec.ValidationError, ValueError, TypeError, OverflowError):
        return False
    return array.dtype.kind in "biu" or (array.dtype.kind == "f" and bool(np.isfinite(array).all()))
