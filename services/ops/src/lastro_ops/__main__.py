"""`python -m lastro_ops`, for callers that know the interpreter and not the checkout."""

import sys

from lastro_ops.cli import main

sys.exit(main())
