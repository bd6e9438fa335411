"""Finds what answers fastest as the original does: compiled, native, or MLflow's pyfunc.

A model is compiled only if every step of it is on a list (`numbers`, `one_hot`, `sklearn_models`,
`boosted_models`), under parameters for which a test shows that the compiled step answers as the
original does. Anything else runs in its own library. Whatever the candidate, it then answers the
input example and thousands of drawn rows; one that disagrees is not used.
"""

from model_api.preparing.compiling.choose import Chosen, choose

__all__ = ["Chosen", "choose"]
