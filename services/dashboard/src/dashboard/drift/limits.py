"""The limits: when a change counts as drift, and how many rows a test needs."""

SIGNIFICANCE = 0.01
"""Largest share of comparisons without any drift that raise an alarm."""

CHANGE, LARGE_CHANGE = 0.1, 0.25
"""PSI above the average by chance: from `CHANGE` on a column has drifted."""

SHARE = 0.02
"""Share of additional rows that are missing, outside the range or new: drift from here on."""

POWER = 0.8
"""Probability with which a test must find a large change."""

MINIMUM_ROWS = 30
"""Effective rows that each sample needs for any check."""

FEWEST_REQUESTS = 30
"""Below this number of requests, rows of one request count as copies of each other."""
