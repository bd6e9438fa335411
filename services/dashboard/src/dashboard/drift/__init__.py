"""Compare a model's recent inputs and predictions with its reference, column by column.

Each column gets one verdict with its reason. It is checked for several kinds of change; each check
gives a p-value and a size:

values
    The population stability index (PSI) over bins of both samples, of m reference rows and n
    recent rows. Without drift, PSI * n * m / (n + m) is asymptotically chi-squared with bins - 1
    degrees of freedom, so PSI averages (bins - 1) * (1/n + 1/m) by chance (Yurdakul, Statistical
    Properties of Population Stability Index, Western Michigan University, 2018). The size of a
    change is the PSI above that average. The usual reading is a change from 0.1 and a large change
    from 0.25 (Siddiqi, Credit Risk Scorecards, 2006, p. 137).
missing
    The share of missing values: Fisher's exact test of two proportions.
range
    For numbers with many different values, the share of rows outside the reference's range.
    Without drift, each row is equally likely to be the largest, so the u largest of n + m rows are
    all recent with a probability of C(n + m - u, m) / C(n + m, m) (Rosenbaum, Annals of
    Mathematical Statistics 25, 1954).
new values
    For all other columns, the share of rows with a value that the reference never had. Some rows
    have new values without drift: about the share of reference rows whose value occurs once (Good,
    Biometrika 40, 1953). Fisher's exact test compares the two shares. It assumes independent rows,
    but one absent value makes all its rows new. So the share must also be larger than if rows were
    assigned to the samples at random: a value of c rows is then absent from the reference with a
    probability of (n / (n + m))**c, and the sum over all values has an exact distribution. The
    larger of both p-values counts.

A column has drifted if a check is both significant and large, because with thousands of rows even
irrelevant differences are significant. Significance is corrected for all checks of all columns by
Holm's method (Scandinavian Journal of Statistics 6, 1979), which is valid for dependent columns:
without any change, at most a share of `SIGNIFICANCE` of the comparisons raises an alarm. A column
is stable only if its values could be tested, which means that a large change (a PSI of 0.25) would
be significant in about 4 of 5 cases if it were the only column. All other columns are not tested.

Rows of one request depend on each other: a thousand rows of one batch may contain no more
information than one row. Every test therefore uses an effective number of rows: n divided by the
design effect, the variance of the shares between requests over that of as many independent rows
(Rao and Scott, Annals of Statistics 12, 1984), with F instead of chi-squared. If a sample cannot
show how similar the rows of one request are, for example for a value that it does not have, the
other sample is used. If neither can, or with fewer than `FEWEST_REQUESTS` requests, rows of one
request count as copies of each other.

PSI and range use only ranks and counts, so infinities and outliers need no special treatment.
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
