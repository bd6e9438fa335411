"""Run one of our modules, in the sandbox that this process is in: ``python -m model_api.sandbox``.

The arguments: `Expected` as JSON, the module, and its own arguments. The sandbox is not simply
trusted: each start checks it from the inside before any foreign code runs.
"""

import runpy
import sys

import msgspec

from model_api.sandbox.inside import SandboxError, hold
from model_api.sandbox.limits import Expected


def main() -> None:
    """Set the limits, check the sandbox, and run the module; exit with 1 if a check fails."""
    expected = msgspec.json.decode(sys.argv[1], type=Expected)
    try:
        hold(expected)
    except SandboxError as error:
        sys.exit(f"the sandbox does not hold on this host, so the model was not run: {error}")
    sys.argv = sys.argv[2:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


main()
