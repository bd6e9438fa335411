"""The limits from which a change counts as drift, and the rows that a test needs."""

SIGNIFICANCE = 0.01
"""The share of comparisons without any drift that raise an alarm, at most."""

CHANGE, LARGE_CHANGE = 0.1, 0.25
"""PSI above what is expected by chance: drift from the first on."""

SHARE = 0.02
"""Drift if so many more rows are missing, outside the range or new."""

POWER = 0.8
MINIMUM_ROWS = 30
"""Effective rows that each sample needs for any check."""

FEWEST_REQUESTS = 30
