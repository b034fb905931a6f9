"""A classifier on labelled data: what it makes of each example, on one process or shared by actors."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from raysafe.data.labelled import Labelled, load_labelled
from raysafe.errors import DataError
from raysafe.generalization.representation import Represented, represent
from raysafe.models.classifier import input_shape, labels_of, load_classifier
from raysafe.models.language import model_digest, model_folder
from raysafe.runtime.pool import chunks_of, parallel_map

if TYPE_CHECKING:
    from raysafe.evaluation.job import EvaluateJob

digest = model_digest


class Reader:
    """Features and logits of a table's `x`, flattened inputs; holds one loaded classifier."""

    def __init__(self, folder: str, gpus: float) -> None:
        self.model = load_classifier(folder).to("cuda" if gpus else "cpu")
        self.shape = input_shape(self.model)

    def __call__(self, table: pa.Table) -> pa.Table:
        flat_ND = _matrix(table["x"])
        found = represent(self.model, flat_ND.reshape(-1, *self.shape).astype(np.float32))
        return pa.table({"features": _column(found.features_ND), "logits": _column(found.logits_NK)})


def labelled_for(job: EvaluateJob, data: str, model: str | None = None) -> Labelled:
    """The examples in `data`, whose classes are numbered as the model's; raises DataError where it can't take them."""
    loaded = load_classifier(model_folder(model or job.model))
    shape, labels = input_shape(loaded), labels_of(loaded)
    labelled = load_labelled(data, limit=job.limit)
    if labelled.x.shape[1:] != shape:
        raise DataError(f"{job.model} takes inputs of shape {shape}, {data} holds {labelled.x.shape[1:]}")
    strange = sorted(set(labelled.labels) - set(labels))
    if strange:
        raise DataError(f"{data} has the class '{strange[0]}', which {job.model} doesn't know: {', '.join(labels)}")
    own = np.array([labels.index(name) for name in labelled.labels])
    return Labelled(labelled.x, own[labelled.y], labels)


def reader(job: EvaluateJob, model: str | None = None) -> Callable[[np.ndarray, str], Represented]:
    """What turns inputs into features and logits; the second argument names the work for the bar.

    One worker on this machine's CPUs is this process: starting Ray would take longer than the work.
    """
    make = partial(Reader, str(model_folder(model or job.model)), job.gpus_per_worker)
    here = make() if job.workers == 1 and job.address is None and not job.gpus_per_worker else None

    def read(x: np.ndarray, description: str) -> Represented:
        table = pa.table({"x": _column(x.reshape(len(x), -1))})
        if here is not None:
            # by the same chunks, so that sums are rounded as they are by actors
            found = pa.concat_tables([here(chunk) for chunk in chunks_of(table)])
        else:
            found = parallel_map(make, table, needs=job.needs, description=description, address=job.address)
        return Represented(_matrix(found["features"]), _matrix(found["logits"]))

    return read


def _column(values_ND: np.ndarray) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(values_ND).reshape(-1)), values_ND.shape[1])


def _matrix(column: pa.ChunkedArray) -> np.ndarray:
    whole = column.combine_chunks()
    return np.asarray(whole.flatten()).reshape(len(column), -1)
