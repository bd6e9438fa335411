"""Compare what a model receives with its reference: one verdict per column, with a reason in words.

Each column is checked for several kinds of change; each check gives a p-value and a size:

values
    The population stability index (PSI) over bins of both samples. Without drift,
    PSI * n * m / (n + m) is asymptotically chi-squared with bins - 1 degrees of freedom, so PSI
    averages (bins - 1) * (1/n + 1/m) by chance alone (Yurdakul, Statistical Properties of
    Population Stability Index, Western Michigan University, 2018). The size of a change is the
    PSI above that average. The usual reading (Siddiqi, Credit Risk Scorecards, 2006, p. 137):
    from 0.1 a change, from 0.25 a large one.
missing
    The share of missing values: Fisher's exact test of two proportions.
range
    For numbers with many different values, the share outside the reference's range. Without drift
    each row is equally likely to be the largest, so the u largest of n + m rows are all recent
    with a probability of C(n + m - u, m) / C(n + m, m) (Rosenbaum, Annals of Mathematical
    Statistics 25, 1954).
new values
    For everything else, the share of rows with a value that the reference never had. Some are
    new without drift: about as many as the share of reference rows whose value occurs once (Good,
    Biometrika 40, 1953). Fisher's exact test compares the two shares. It takes rows as
    independent, but one absent value makes all its rows new. So the share must also be larger
    than if rows had been dealt to the samples at random: a value of c rows then misses the
    reference with a probability of (n / (n + m))**c, and the sum over all values has an exact
    distribution. The larger p counts.

A column has drifted if a check is both significant and large: with thousands of rows, differences
that nobody cares about are significant. Significance is corrected for all checks of all columns
by Holm's method (Scandinavian Journal of Statistics 6, 1979), which holds for columns that depend
on each other: data that have not changed raise any alarm at most `SIGNIFICANCE` of the times.
A column is stable only if its values could be tested: a large change (a PSI of 0.25) would have
been significant in about 4 of 5 cases, were it the only column. The rest is not tested.

Rows of one request depend on each other, so that a thousand rows of one batch may say no more
than one row. Every test therefore uses an effective number of rows: n divided by the design effect,
the variance of the shares between requests over that of as many independent rows (Rao and Scott,
Annals of Statistics 12, 1984), with F instead of chi-squared. Where a sample cannot show how alike
rows of one request are, as of a value that it lacks, the other sample tells; if that cannot either,
rows of one request count as copies of each other. So they do below `FEWEST_REQUESTS`.

PSI and range use ranks and counts only: infinities and outliers need no special treatment.
"""

from dashboard.drift.comparison import Bucket, compare, over_time
from dashboard.drift.limits import CHANGE, LARGE_CHANGE, POWER, SHARE, SIGNIFICANCE
from dashboard.drift.stability import psi, rows_needed
from dashboard.drift.verdicts import Check, Feature, Kind, Verdict

__all__ = [
    "CHANGE",
    "LARGE_CHANGE",
    "POWER",
    "SHARE",
    "SIGNIFICANCE",
    "Bucket",
    "Check",
    "Feature",
    "Kind",
    "Verdict",
    "compare",
    "over_time",
    "psi",
    "rows_needed",
]
