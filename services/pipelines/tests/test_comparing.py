"""A champion is replaced by a better model, not by chance."""

from collections.abc import Callable
from itertools import permutations

import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from lastro_pipelines import comparing, data, evaluation
from lastro_pipelines.candidates import CANDIDATES
from lastro_pipelines.comparing import Losses, compare

ROWS = 27
REPEATS = 1000
# Four standard errors of a share of 1% in so many repeats.
LUCK = 4 * (0.01 * 0.99 / REPEATS) ** 0.5


@pytest.fixture(scope="module")
def splits() -> data.Splits:
    return data.split(data.check(data.load()))


@pytest.fixture(scope="module")
def by_seed(splits: data.Splits) -> list[Losses]:
    """The losses on the test split of the pipeline's forest, trained with eight seeds."""
    features = list(data.FEATURES)
    params = {**CANDIDATES["random-forest"].params, "n_jobs": 1}
    return [
        evaluation.losses(
            RandomForestClassifier(random_state=seed, **params).fit(
                splits.train[features], splits.train[data.TARGET]
            ),
            splits.test,
        )
        for seed in range(8)
    ]


@pytest.mark.parametrize("margin", [0.0, comparing.MARGIN])
def test_models_that_differ_by_their_seed_are_promoted_no_more_often_than_documented(
    by_seed: list[Losses], margin: float
) -> None:
    pairs = list(permutations(by_seed, 2))
    # Half of them have a lower log loss.
    assert np.mean([theirs.mean() - ours.mean() > 1e-6 for ours, theirs in pairs]) > 0.4
    promoted = [compare(ours, theirs, margin=margin).better for ours, theirs in pairs]
    assert np.mean(promoted) <= comparing.SIGNIFICANCE


def test_seven_retrainings_that_differ_by_their_seed_leave_the_champion(
    by_seed: list[Losses],
) -> None:
    # The least lucky of them is the champion.
    champion, *challengers = sorted(by_seed, key=np.mean, reverse=True)
    assert [compare(challenger, champion).better for challenger in challengers] == [False] * 7


@pytest.mark.parametrize(
    ("draw", "most"),
    [
        (lambda random, shape: random.normal(size=shape), 0.01),
        (lambda random, shape: random.standard_t(3, size=shape), 0.01),
        (lambda random, shape: random.exponential(size=shape) - 1, 0.01),
        # Better on most rows, much worse on a few: the hardest case for so few rows.
        (lambda random, shape: 1 - random.exponential(size=shape), 0.02),
    ],
    ids=["normal", "heavy tails", "large gains", "large losses"],
)
def test_a_gain_equal_to_the_margin_is_rarely_promoted(
    draw: Callable[[np.random.Generator, tuple[int, int]], Losses], most: float
) -> None:
    random = np.random.default_rng(7)
    nothing, margin = np.zeros(ROWS), 0.5
    gains = draw(random, (REPEATS, ROWS)) + margin
    wrong = [compare(nothing, gain, margin=margin).better for gain in gains]
    assert np.mean(wrong) <= most + LUCK


def test_a_clearly_better_model_is_found_with_few_rows(splits: data.Splits) -> None:
    features = list(data.FEATURES)
    models = [
        make_pipeline(StandardScaler(), LogisticRegression(C=c)).fit(
            splits.train[features], splits.train[data.TARGET]
        )
        for c in (0.001, 1.0)
    ]
    weak, good = (evaluation.losses(model, splits.test) for model in models)
    outcome = compare(good, weak)
    assert outcome.better and outcome.p is not None and outcome.p < 0.005
    assert "exceeds the margin of 0.01 (one-sided paired test on " in outcome.reason()
    assert not compare(weak, good).better
    # A gain below the margin does not count.
    assert not compare(good, weak, margin=2.0).better


def test_too_few_rows_give_no_verdict() -> None:
    theirs = np.linspace(1, 2, comparing.MINIMUM_ROWS)
    few = compare(theirs[1:] - 1, theirs[1:])
    assert (few.better, few.p) == (False, None)
    assert few.reason() == (
        "19 held-out rows are too few to compare the models: at least 20 are needed"
    )
    assert compare(theirs - 1, theirs).better
    assert not compare(np.array([]), np.array([])).better


def test_equal_losses_are_no_gain_and_equal_gains_are_one() -> None:
    theirs = np.linspace(1, 2, 30)
    assert compare(theirs, theirs, margin=0.0).p == 1.0
    assert compare(theirs - 0.5, theirs).p == 0.0
    assert not compare(theirs - 1e-6, theirs).better


def test_rounding_is_no_gain() -> None:
    theirs = np.random.default_rng(0).exponential(size=30)
    assert not compare(theirs, theirs + 1e-15, margin=0.0).better
    assert not compare(np.zeros(30), np.full(30, 0.1 + 0.2), margin=0.3).better
    # Small losses are not rounding: they may be in another unit.
    assert compare(theirs * 1e-15, theirs * 2e-15, margin=0.0).better


@pytest.mark.parametrize("size", [1e100, 1e200, 1e308])
def test_a_champion_that_has_diverged_is_replaced(size: float) -> None:
    random = np.random.default_rng(0)
    outcome = compare(random.random(30), size * random.random(30))
    assert outcome.better and np.isfinite(outcome.gain)
    assert not compare(size * random.random(30), random.random(30)).better


def test_of_many_rows_the_normal_distribution_is_enough() -> None:
    random = np.random.default_rng(3)
    theirs = random.exponential(size=200_000)
    assert compare(theirs * 0.9, theirs).better
    assert not compare(random.permutation(theirs), theirs).better


@pytest.mark.parametrize(
    ("ours", "theirs", "options", "message"),
    [
        (np.ones(30), np.ones(29), {}, r"shapes \(30,\) and \(29,\)"),
        (np.ones((30, 1)), np.ones((30, 1)), {}, "same rows"),
        (np.full(30, np.nan), np.ones(30), {}, "predict NaN"),
        (np.ones(30), np.ones(30), {"margin": -1.0}, "margin is -1.0"),
        (np.ones(30), np.ones(30), {"margin": float("nan")}, "margin is nan"),
        (np.ones(30), np.ones(30), {"margin": float("inf")}, "margin is inf"),
        (np.ones(30), np.ones(30), {"significance": 5.0}, "significance is 5.0"),
    ],
)
def test_losses_that_cannot_be_compared_are_refused(
    ours: Losses, theirs: Losses, options: dict[str, float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        compare(ours, theirs, **options)


def test_losses_are_those_of_the_metrics() -> None:
    random = np.random.default_rng(5)
    probabilities = random.dirichlet((1, 1, 1), 50)
    probabilities[0] = (1, 0, 0)
    truth = np.array(["b", *random.choice(["a", "b", "c"], 49)])
    classes = ["a", "b", "c"]
    losses = comparing.log_losses(truth, probabilities, classes)
    assert losses.shape == (50,)
    assert losses.mean() == pytest.approx(log_loss(truth, probabilities, labels=classes))
    with pytest.raises(ValueError, match=r"has no probability for the classes \['c'\]"):
        comparing.log_losses(truth, probabilities[:, :2], ["a", "b"])
    assert list(comparing.squared_errors([1, 2], [3, 2])) == [4, 0]
    assert list(comparing.absolute_errors([1, 2], [3, 2])) == [2, 0]


@pytest.mark.parametrize(
    "spoil",
    [lambda p: p * 30, lambda p: p - 0.5, lambda p: np.log(p), lambda p: p / 2],
    ids=["beyond 1", "below 0", "logarithms", "halves"],
)
def test_scores_instead_of_probabilities_are_refused(spoil: Callable) -> None:
    random = np.random.default_rng(0)
    probabilities, truth = random.dirichlet((1, 1, 1), 50), random.choice([0, 1, 2], 50)
    comparing.log_losses(truth, probabilities.astype("float32"), [0, 1, 2])
    with pytest.raises(ValueError, match="Does the model return scores"):
        comparing.log_losses(truth, spoil(probabilities), [0, 1, 2])


def test_shapes_that_do_not_fit_are_refused() -> None:
    truth = [0, 1] * 20
    with pytest.raises(ValueError, match=r"shape \(40,\), the truth has \(40,\), .* 2 classes"):
        comparing.log_losses(truth, np.full(40, 0.5), [0, 1])
    with pytest.raises(ValueError, match=r"has no probability for the classes \['z', None\]"):
        comparing.log_losses(
            np.array([None, "z"], dtype=object), np.full((2, 2), 0.5), np.array(["a", "b"])
        )
    for errors in (comparing.squared_errors, comparing.absolute_errors):
        # As a column, each row would be compared with every other.
        with pytest.raises(ValueError, match=r"\(40,\) and the predictions have \(40, 1\)"):
            errors(truth, np.zeros((40, 1)))
        with pytest.raises(ValueError, match="one value per row"):
            errors(truth, 1.0)
