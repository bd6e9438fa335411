"""Sessions of ONNX Runtime."""

from pathlib import Path
from typing import Any

type Session = Any
"""ONNX Runtime's ``InferenceSession``."""


def session(path: Path) -> Session:
    """Return ONNX Runtime's session of a model, which computes in the calling thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
