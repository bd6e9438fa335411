"""Compiles a model: its steps to a program, its predictor to an engine's options and files."""

import multiprocessing
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline

from model_api.model.engines import ARRAYS
from model_api.model.layout import Layout
from model_api.model.untyped import Estimator, JsonObject
from model_api.preparing.compiling.predictors import listed, predictor
from model_api.preparing.compiling.rules import NotCompiled, check
from model_api.preparing.compiling.steps import PIPELINE, draft


def budget() -> float:
    """Return the limit of conversion in seconds: a fifth of the preparation's.

    The rest is for the native engine, which serves if conversion takes too long.
    """
    return float(os.environ.get("MODEL_API_PREPARE_SECONDS") or 300) / 5


def convert(estimator: Estimator, layout: Layout, folder: Path) -> tuple[str, JsonObject]:
    """Return the engine that a model is compiled to, and its options; write its files.

    Raises:
        NotCompiled: a part of the model is not on the list of compiled classes, or is on it with
            other parameters.
    """
    steps, model = [], estimator
    while type(model) is Pipeline:
        check(model, PIPELINE)
        *before, (_, model) = model.steps
        steps += [step for _, step in before]
    listed(model)
    drafted, seen = draft(steps, layout)
    made = predictor(model, seen)
    if made.narrow:
        drafted.blocks[:] = [{"kind": "narrow"}]
    arrays: dict[str, Any] = drafted.arrays | made.arrays
    np.savez(folder / ARRAYS, **arrays)
    made.write(folder)
    return made.engine, made.options | {"program": drafted.program()}


def within[T](seconds: float, work: Callable[[], T]) -> T:
    """Return the result of a function that runs in a separate process, with a limit of seconds.

    Raises:
        NotCompiled: it failed, took longer, or its process died.
    """
    # A fork already has the model in memory; nothing can stop a library in this process.
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(sender, work), daemon=True)
    with warnings.catch_warnings():
        # A fork that waits for another thread of this process ends at the limit.
        warnings.simplefilter("ignore", DeprecationWarning)
        process.start()
    sender.close()
    try:
        if not receiver.poll(seconds):
            raise NotCompiled(f"converting it took longer than {seconds:g} s")
        failure, answer = receiver.recv()
    except EOFError:
        raise NotCompiled("the process that converted it died") from None
    finally:
        process.kill()
        process.join()
        receiver.close()
    if failure is not None:
        raise NotCompiled(failure)
    result: T = answer
    return result


def _send(sender: Any, work: Callable[[], object]) -> None:
    from model_api.model.words import first_line

    message: tuple[str | None, Any]
    try:
        message = None, work()
    except Exception as error:
        message = first_line(error), None
    sender.send(message)
    sender.close()
