"""The rules by which forecasts become one, on forecasts whose best weights are known."""

from __future__ import annotations

import numpy as np
import pytest

from freqai_lstm_plugins.models.ensemble.combine import (
    PENALTIES,
    Evidence,
    Follow,
    best_weights,
    choose_follow,
    choose_penalty,
    combine_points,
    disagreement,
    effective_members,
    error_correlation,
    following_weights,
    learn_weights,
    most_confident,
    stack_weights,
)


def evidence(forecasts, targets, n_folds=3, weights=None, period=3):
    n = len(targets)
    return Evidence(
        forecasts,
        targets,
        np.ones(n) if weights is None else weights,
        np.arange(n) * n_folds // n,
        np.arange(n),
        np.arange(n) + period,
        np.zeros(n, dtype=int),
    )


def noisy(deviations, n=2000, seed=0):
    """Members that tell the truth with independent errors."""
    rng = np.random.default_rng(seed)
    targets = rng.normal(size=n)
    errors = rng.normal(size=(n, len(deviations))) * deviations
    return evidence(targets[:, None] + errors, targets)


def follow(**changes):
    return Follow(
        **{
            "rate": 1.0,
            "half_life": 20.0,
            "share": 0.05,
            "label_period": 3,
            "scale": 1.0,
            **changes,
        }
    )


def test_a_forecast_is_the_weighted_sum():
    found = combine_points(np.array([[1.0, 3.0], [2.0, 2.0]]), np.array([0.25, 0.75]))
    np.testing.assert_array_equal(found, [2.5, 2.0])


def test_a_member_without_a_forecast_gives_its_weight_to_the_others():
    forecasts = np.array([[1.0, np.nan, 3.0], [np.nan, np.nan, np.nan]])
    found = combine_points(forecasts, np.array([0.2, 0.5, 0.3]))
    assert found[0] == pytest.approx((0.2 * 1 + 0.3 * 3) / 0.5)
    assert np.isnan(found[1])


def test_disagreement_is_the_weighted_deviation():
    forecasts = np.array([[1.0, 3.0], [2.0, 2.0], [5.0, np.nan]])
    found = disagreement(forecasts, np.array([0.5, 0.5]))
    np.testing.assert_allclose(found, [1.0, 0.0, 0.0])


def test_weights_go_with_the_inverse_of_the_variance():
    errors = []
    for seed in range(5):
        weights, _ = learn_weights(noisy([1, 2, 4], 2000, seed))
        best = np.array([1, 1 / 4, 1 / 16])
        errors.append(np.abs(weights - best / best.sum()).max())
    assert np.mean(errors) < 0.05


def test_twins_share():
    one = noisy([1.0, 2.0])
    twins = np.column_stack([one.forecasts[:, 0], one.forecasts[:, 0], one.forecasts[:, 1]])
    weights, _ = learn_weights(evidence(twins, one.targets))
    assert weights[0] + weights[1] > weights[2]
    # Any penalty at all parts a weight between equals evenly.
    drawn = stack_weights(evidence(twins, one.targets), min(PENALTIES))
    assert drawn[0] == pytest.approx(drawn[1], abs=1e-6)


def test_on_noise_stacking_costs_at_most_a_hundredth_more_than_the_mean():
    excess = []
    for seed in range(50):
        rng = np.random.default_rng(seed)
        n, m = 900, 5
        forecasts, targets = rng.normal(size=(2 * n, m)) * 0.1, rng.normal(size=2 * n)
        weights, _ = learn_weights(evidence(forecasts[:n], targets[:n]))
        losses = [
            np.mean(np.square(combine_points(forecasts[n:], w) - targets[n:]))
            for w in (weights, np.full(m, 1 / m))
        ]
        excess.append(losses[0] / losses[1] - 1)
    assert np.mean(excess) <= 0.01


def test_infinity_is_the_mean_and_wins_a_tie():
    same = noisy([1.0])
    forecasts = np.repeat(same.forecasts, 3, axis=1)
    assert choose_penalty(evidence(forecasts, same.targets)) == np.inf
    np.testing.assert_array_equal(stack_weights(same, np.inf), [1.0])


def test_weights_of_rows_count():
    rng = np.random.default_rng(1)
    targets = rng.normal(size=600)
    early = np.arange(600) < 300
    good, bad = targets + rng.normal(size=600) * 0.1, rng.normal(size=600)
    forecasts = np.column_stack([np.where(early, good, bad), np.where(early, bad, good)])
    found = [
        stack_weights(evidence(forecasts, targets, weights=np.where(early, w, 2 - w)), 0.0)
        for w in (1.99, 0.01)
    ]
    assert found[0][0] > 0.8
    assert found[1][1] > 0.8


def turned_in_the_last_fold(n=900):
    """Two members, of which the first one is right until the last of three folds begins."""
    rng = np.random.default_rng(2)
    targets = rng.normal(size=n)
    deviation = np.where(np.arange(n)[:, None] < n * 2 // 3, [0.1, 2.0], [2.0, 0.1])
    return targets[:, None] + rng.normal(size=(n, 2)) * deviation, targets, np.arange(n) * 3 // n


def test_weights_of_rows_count_where_the_penalty_and_the_best_member_are_chosen():
    forecasts, targets, folds = turned_in_the_last_fold()
    early, late = (
        evidence(forecasts, targets, weights=np.where(folds == 2, w, 1.0)) for w in (1e-6, 1e6)
    )
    assert choose_penalty(early) < 0.1
    assert choose_penalty(late) == np.inf
    np.testing.assert_array_equal(best_weights(early), [1, 0])
    np.testing.assert_array_equal(best_weights(late), [0, 1])


def test_weights_of_rows_count_where_it_is_chosen_how_to_follow():
    rng = np.random.default_rng(4)
    targets, turns = rng.normal(size=900), np.arange(900) % 300 < 150
    steady = np.arange(900) < 300
    deviation = np.where(turns[:, None], [0.3, 1.5], [1.5, 0.3])
    # In the first fold both are alike, so whoever follows follows noise.
    deviation[steady] = 1.0
    forecasts = targets[:, None] + rng.normal(size=(900, 2)) * deviation
    rates = [
        choose_follow(
            evidence(forecasts, targets, weights=np.where(steady, w, 1.0)), np.full(2, 0.5), 3
        ).rate
        for w in (1e-6, 1e6)
    ]
    assert rates[0] > 0
    assert rates[1] == 0


def test_a_member_that_points_the_wrong_way_has_no_weight():
    one = noisy([0.5])
    forecasts = np.column_stack([one.forecasts[:, 0], -one.forecasts[:, 0]])
    np.testing.assert_allclose(stack_weights(evidence(forecasts, one.targets), 0.0), [1, 0])


@pytest.mark.parametrize("targets", [np.zeros(30), np.ones(30)])
def test_a_constant_target_gives_weights_all_the_same(targets):
    rng = np.random.default_rng(0)
    weights, _ = learn_weights(evidence(rng.normal(size=(30, 3)), targets))
    assert weights.sum() == pytest.approx(1)
    assert (weights >= 0).all()


def test_collinear_members_give_finite_weights():
    one = noisy([1.0])
    forecasts = np.column_stack([one.forecasts[:, 0], 2 * one.forecasts[:, 0], np.zeros(len(one))])
    weights, _ = learn_weights(evidence(forecasts, one.targets))
    assert np.isfinite(weights).all()
    assert weights.sum() == pytest.approx(1)


def test_weights_of_earlier_folds_know_no_target_of_the_later_ones():
    one = evidence(np.zeros((90, 2)), np.zeros(90), period=7)
    earlier = one.before_fold(2)
    # Fold 2 begins at candle 60; the target of candle 53 is known at 60.
    assert earlier.positions.max() == 52
    assert len(earlier) == 53


def test_a_penalty_is_chosen_without_targets_that_reach_into_the_later_fold(monkeypatch):
    from freqai_lstm_plugins.models.ensemble import combine

    seen = []

    def noting(evidence, penalty):
        seen.append(evidence.known_at.max())
        return np.full(2, 0.5)

    monkeypatch.setattr(combine, "stack_weights", noting)
    choose_penalty(noisy([1, 2], 90), [1.0])
    assert seen == [29, 59]


def test_each_series_of_a_panel_is_followed_by_itself():
    one, other = noisy([0.3, 1.5], 300, 1), noisy([1.5, 0.3], 300, 2)
    both = Evidence(
        *(
            np.concatenate(pair)
            for pair in zip(
                (one.forecasts, one.targets, one.weights, one.folds, one.positions, one.known_at),
                (
                    other.forecasts,
                    other.targets,
                    other.weights,
                    other.folds,
                    other.positions,
                    other.known_at,
                ),
                strict=True,
            )
        ),
        np.repeat([0, 1], 300),
    )
    parts = both.stretches()
    assert len(parts) == 6
    assert all((np.diff(part.positions) == 1).all() for part in parts)
    # The better member is another one in each series, which together look like none.
    assert choose_follow(both, np.full(2, 0.5), 3).rate > 0


def test_the_best_member_alone_is_the_one_of_the_least_error():
    np.testing.assert_array_equal(best_weights(noisy([2, 1, 4])), [0, 1, 0])
    same = noisy([1.0])
    twins = evidence(np.repeat(same.forecasts, 2, axis=1), same.targets)
    np.testing.assert_array_equal(best_weights(twins), [1, 0])


# following losses


def slow_weights(forecasts, targets, positions, start, how):
    """The definition, candle by candle."""
    result = []
    for t in positions:
        sums = np.zeros(forecasts.shape[1])
        for row, r in enumerate(positions):
            if r + how.label_period <= t and np.isfinite(targets[row]):
                age = t - how.label_period - r
                loss = np.square(forecasts[row] - targets[row]) / how.scale
                sums += 0.5 ** (age / how.half_life) * loss
        found = start * np.exp(-how.rate * (sums - sums.min()))
        result.append((1 - how.share) * found / found.sum() + how.share * start)
    return np.array(result)


def test_weights_follow_their_definition_over_gaps():
    rng = np.random.default_rng(0)
    positions = np.sort(rng.choice(100, 60, replace=False))
    forecasts, targets = rng.normal(size=(60, 3)), rng.normal(size=60)
    targets[10] = np.nan
    start = np.array([0.5, 0.3, 0.2])
    found = following_weights(forecasts, targets, positions, start, follow())
    np.testing.assert_allclose(found, slow_weights(forecasts, targets, positions, start, follow()))


def test_a_label_counts_only_once_it_is_known():
    rng = np.random.default_rng(0)
    forecasts, targets = rng.normal(size=(50, 2)), rng.normal(size=50)
    start = np.array([0.5, 0.5])
    before = following_weights(forecasts, targets, np.arange(50), start, follow())
    targets[20] += 100
    after = following_weights(forecasts, targets, np.arange(50), start, follow())
    # The label of row 20 is known at candle 23.
    np.testing.assert_array_equal(after[:23], before[:23])
    assert (after[23] != before[23]).any()


def test_a_member_that_says_nothing_for_a_while_neither_gains_nor_loses():
    rng = np.random.default_rng(0)
    forecasts, start = rng.normal(size=(60, 1)).repeat(2, axis=1), np.array([0.6, 0.4])
    forecasts[10:40, 1] = np.nan
    found = following_weights(forecasts, np.zeros(60), np.arange(60), start, follow())
    np.testing.assert_allclose(found, np.tile(start, (60, 1)))


def test_a_restart_gives_the_same_weights():
    rng = np.random.default_rng(0)
    forecasts, targets = rng.normal(size=(80, 2)), rng.normal(size=80)
    start = np.array([0.7, 0.3])
    whole = following_weights(forecasts, targets, np.arange(80), start, follow())
    for n in (1, 30, 79):
        targets_then = np.where(np.arange(n) + 3 < n, targets[:n], np.nan)
        then = following_weights(forecasts[:n], targets_then, np.arange(n), start, follow())
        np.testing.assert_allclose(then[-1], whole[n - 1], atol=1e-12)


def test_after_a_change_of_regime_the_new_best_member_soon_has_half_the_weight():
    rng = np.random.default_rng(0)
    targets = rng.normal(size=400)
    noise = rng.normal(size=(400, 2))
    deviation = np.where(np.arange(400)[:, None] < 200, [0.3, 1.5], [1.5, 0.3])
    how = follow(half_life=40.0)
    found = following_weights(
        targets[:, None] + noise * deviation, targets, np.arange(400), np.full(2, 0.5), how
    )
    assert found[199, 0] > 0.9
    assert found[200 + 2 * 40 + 3, 1] > 0.5


def test_on_noise_weights_do_not_follow():
    rng = np.random.default_rng(3)
    start = np.full(3, 1 / 3)
    rates = []
    for _ in range(20):
        one = evidence(rng.normal(size=(600, 3)) * 0.1, rng.normal(size=600))
        rates.append(choose_follow(one, start, 3).rate)
    assert np.mean(np.array(rates) == 0) >= 0.3
    assert max(rates) <= 8


def test_a_planted_change_is_followed():
    rng = np.random.default_rng(0)
    targets = rng.normal(size=900)
    # In each fold the better member changes in the middle.
    first = (np.arange(900) % 300 < 150)[:, None]
    deviation = np.where(first, [0.3, 1.5], [1.5, 0.3])
    forecasts = targets[:, None] + rng.normal(size=(900, 2)) * deviation
    assert choose_follow(evidence(forecasts, targets), np.full(2, 0.5), 3).rate > 0


def test_huge_losses_neither_overflow_nor_divide_by_zero():
    forecasts = np.array([[1e8, 0.0]] * 500)
    found = following_weights(forecasts, np.zeros(500), np.arange(500), np.full(2, 0.5), follow())
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found.sum(axis=1), 1)
    assert found[-1, 0] == pytest.approx(0.025)


# confidence, and what is said of members


def test_the_narrowest_interval_is_chosen():
    widths = np.array([[1.0, 2.0], [3.0, 2.0], [5.0, 6.0], [np.nan, 1.0]])
    forecasts = np.array([[1.0, 1.0], [1.0, 1.0], [1.0, 1.0], [1.0, np.nan]])
    found = most_confident(forecasts, widths, max_width=4.0)
    np.testing.assert_array_equal(found, [[1, 0], [0, 1], [0, 0], [0, 0]])
    assert np.isnan(combine_points(forecasts, found)[2:]).all()


def test_equal_weights_are_as_many_members():
    assert effective_members(np.full(4, 0.25)) == pytest.approx(4)
    assert effective_members(np.array([1.0, 0.0])) == 1


def test_errors_that_are_the_same_correlate_wholly():
    one = noisy([1.0, 1.0])
    twins = np.column_stack([one.forecasts[:, 0], one.forecasts[:, 0], one.forecasts[:, 1]])
    found = error_correlation(twins, one.targets)
    assert found[0, 1] == pytest.approx(1)
    assert abs(found[0, 2]) < 0.1
