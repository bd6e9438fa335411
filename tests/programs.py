"""Programs of scripts/ as modules: their names have no suffix that Python knows."""

from __future__ import annotations

import importlib.util
import sys
from importlib.machinery import SourceFileLoader
from types import ModuleType

from wiring import PROJECT


def load(name: str) -> ModuleType:
    """scripts/<name>, as if it were imported."""
    loader = SourceFileLoader(name, str(PROJECT / "scripts" / name))
    spec = importlib.util.spec_from_loader(name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    # Where dataclasses look for what their annotations name.
    sys.modules[name] = module
    loader.exec_module(module)
    return module
