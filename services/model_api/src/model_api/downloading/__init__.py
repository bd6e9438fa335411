"""Downloads versions of registered models, without running any of their code."""
