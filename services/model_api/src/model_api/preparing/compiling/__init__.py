"""Finds the fastest engine that answers as the original does: compiled, native, or pyfunc.

A model is compiled only if each of its steps is on a list (`numbers`, `one_hot`, `sklearn_models`,
`boosted_models`), with parameters for which a test shows that the compiled step answers as the
original does. Any other model runs in its own library. Each candidate then answers the input
example and thousands of drawn rows; a candidate that disagrees is not used.
"""

from model_api.preparing.compiling.choose import Chosen, choose

__all__ = ["Chosen", "choose"]
