"""`POST /invocations` as MLflow's scoring server has it (mlflow.pyfunc.scoring_server, 3.x).

JSON with exactly one of `dataframe_split`, `dataframe_records`, `instances`, `inputs`,
or CSV with a header; the answer is `{"predictions": [...]}`, an error is
`{"error_code": ..., "message": ...}`. Other than MLflow's, an error repeats no values
and no stack trace, NaN in an answer is null, and parquet is not read.

`params` without a schema for them are ignored, as MLflow ignores them; scikit-learn's
flavour passes none to the model, so neither does this.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from insitu.serving.calls import json_bytes, json_object, plain_list
from insitu.serving.errors import RequestError
from insitu.serving.http_server import Reply
from insitu.serving.signature import Column, Signature
from insitu.serving.sklearn_model import LoadedModel
from insitu.serving.tables import Table, table_from_array, table_from_columns, table_from_rows

CONTENT_TYPES = ("text/csv", "application/json")
_FORMATS = ("dataframe_split", "dataframe_records", "instances", "inputs")
#: What pandas.read_csv takes for "nothing", which is what MLflow reads CSV with.
_EMPTY = frozenset(
    {"", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN"}
    | {"<NA>", "N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"}
)


class Invocation:
    """One request; see `calls.Call`."""

    __slots__ = ("_body", "_content_type")

    def __init__(self, content_type: str, body: bytes) -> None:
        self._content_type = content_type
        self._body = body

    def read(self, model: LoadedModel) -> tuple[Table, tuple[str, ...]]:
        read = _reader(self._content_type)
        table = read(self._body, model)
        if table.rows == 0:
            raise RequestError("Invalid input. The input has no rows.")
        return table, (model.method,)

    def answer(self, results: Mapping[str, Any]) -> Reply:
        (predictions,) = results.values()
        return Reply(200, json_bytes({"predictions": plain_list(predictions)}))

    def refuse(self, error: RequestError) -> Reply:
        return refusal(error)


def refusal(error: RequestError) -> Reply:
    if error.status == 415:
        return Reply(415, error.message.encode(), "text/plain; charset=utf-8")
    return Reply(error.status, json_bytes({"error_code": error.code, "message": error.message}))


def _reader(content_type: str) -> Callable[[bytes, LoadedModel], Table]:
    mime, *parameters = (part.strip() for part in content_type.split(";"))
    for parameter in filter(None, parameters):
        key, _, value = parameter.partition("=")
        if key.lower() != "charset":
            raise RequestError(f"Unrecognized content type parameters: {key[:80]}.", status=415)
        if value.strip('"').lower() != "utf-8":
            raise RequestError("The scoring server only supports UTF-8", status=415)
    if mime.lower() == "application/json":
        return _table_from_json
    if mime.lower() == "text/csv":
        return _table_from_csv
    got = mime[:80]
    message = f"This predictor only supports the following content types: {list(CONTENT_TYPES)}. Got {got!r}."
    raise RequestError(message, status=415)


def _table_from_json(body: bytes, model: LoadedModel) -> Table:
    document = json_object(body)
    given = [name for name in _FORMATS if name in document]
    if len(given) != 1:
        raise RequestError(
            "The input must be a JSON dictionary with exactly one of the input fields "
            f"{list(_FORMATS)}. Received dictionary with input fields: {sorted(document)[:20]}"
        )
    if document.get("params") and model.signature.has_params:
        raise RequestError("This model's params can't be given here: scikit-learn's predict takes none.")
    read: Callable[[Any, LoadedModel], Table] = {
        "dataframe_split": _from_split,
        "dataframe_records": _from_records,
        "instances": _from_tensors,
        "inputs": _from_tensors,
    }[given[0]]
    return read(document[given[0]], model)


def _from_split(part: object, model: LoadedModel) -> Table:
    if not isinstance(part, dict) or "data" not in part or set(part) - {"columns", "data", "index"}:
        raise RequestError(
            "Invalid input. Dataframe split format must be a dictionary with a 'data' field "
            "and optionally 'columns' and 'index' fields."
        )
    data, names = part["data"], part.get("columns")
    if not isinstance(data, list):
        raise RequestError("Invalid input. The 'data' field must be a list of rows.")
    sig = model.signature
    if not sig.columns:
        return table_from_array(data, sig)
    if names is None:
        # As in MLflow: a table without names has none of those that the signature asks for.
        names = [str(index) for index in range(len(data[0]) if data and isinstance(data[0], list) else 0)]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise RequestError("Invalid input. The 'columns' field must be a list of names.")
    return table_from_rows(names, data, sig, arrays=model.takes_arrays)


def _from_records(part: object, model: LoadedModel) -> Table:
    if not isinstance(part, list) or not all(isinstance(record, dict) for record in part):
        raise RequestError("Invalid input. Dataframe records format must be a list of records.")
    if not part:
        raise RequestError("Invalid input. The input has no rows.")
    sig = model.signature
    if not sig.columns:
        return table_from_array([list(record.values()) for record in part], sig)
    names = list(dict.fromkeys(name for record in part for name in record))
    columns = {name: [record.get(name) for record in part] for name in names}
    return table_from_columns(columns, sig, arrays=model.takes_arrays)


def _from_tensors(part: object, model: LoadedModel) -> Table:
    """`inputs` and `instances`, in TensorFlow Serving's row and column forms."""
    sig = model.signature
    if isinstance(part, list) and part and all(isinstance(item, dict) for item in part):
        return _from_records(part, model)
    if isinstance(part, dict):
        if not sig.columns:
            raise RequestError(
                "Invalid input. This model contains an un-named model signature which expects "
                "a single n-dimensional array."
            )
        columns = {name: value if isinstance(value, list) else [value] for name, value in part.items()}
        return table_from_columns(columns, sig, arrays=model.takes_arrays)
    if not isinstance(part, list):
        raise RequestError("Invalid input. Expected a list or a dictionary of columns.")
    if not sig.columns:
        return table_from_array(part, sig)
    if len(sig.columns) == 1:
        flat = [item[0] if isinstance(item, list) and len(item) == 1 else item for item in part]
        return table_from_columns({sig.columns[0].name: flat}, sig, arrays=model.takes_arrays)
    raise RequestError(f"Model is missing inputs {list(sig.names)}.")


def _table_from_csv(body: bytes, model: LoadedModel) -> Table:
    try:
        rows = list(csv.reader(io.StringIO(body.decode("utf-8-sig"), newline=""), strict=True))
    except UnicodeDecodeError as exc:
        raise RequestError("Invalid input. Ensure that input is a valid UTF-8 encoded string.") from exc
    except csv.Error as exc:
        raise RequestError("Failed to parse input as CSV.") from exc
    rows = [row for row in rows if row]
    if len(rows) < 2:
        raise RequestError("Invalid input. A CSV needs a header and at least one row.")
    names, data = rows[0], rows[1:]
    if any(len(row) != len(names) for row in data):
        raise RequestError("Failed to parse input as CSV: a row has not as many fields as the header.")
    return _csv_columns(names, data, model)


def _csv_columns(names: Sequence[str], data: Sequence[Sequence[str]], model: LoadedModel) -> Table:
    sig = model.signature
    if not sig.columns:
        return table_from_array([[None if cell in _EMPTY else cell for cell in row] for row in data], sig)
    if len(set(names)) != len(names):
        raise RequestError("The input names a column twice.")
    at = {name: index for index, name in enumerate(names)}
    columns = {
        column.name: [_csv_cell(row[at[column.name]], column) for row in data]
        for column in sig.columns
        if column.name in at
    }
    return table_from_columns(_with_extra(columns, names, sig), sig, arrays=model.takes_arrays)


def _with_extra(columns: dict[str, list[Any]], names: Sequence[str], sig: Signature) -> dict[str, list[Any]]:
    """Names of columns that the signature doesn't know, so that an error can mention them."""
    return columns | {name: [] for name in names if name not in set(sig.names)}


def _csv_cell(cell: str, column: Column) -> Any:
    if cell in _EMPTY:
        return None
    if column.type == "boolean":
        return {"true": True, "1": True, "false": False, "0": False}.get(cell.lower(), cell)
    if column.type == "any":
        try:
            return float(cell)
        except ValueError:
            return cell
    return cell
