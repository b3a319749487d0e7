"""On a market with a planted signal the nets find most of what can be found, and else nothing."""

from __future__ import annotations

import numpy as np
import pytest

from freqai_lstm_plugins import SequenceRegressor
from freqai_lstm_plugins.nets import NETS
from freqai_lstm_plugins.replay import synthetic_driver, synthetic_market

PAIR = "BTC/USDT"
SIGNAL = 0.3
W, HORIZON = 24, 6
N_TRAIN, N_TEST = 12_000, 6_000
BLOCK = 60


@pytest.fixture(scope="module")
def problem():
    """Return features (N, 3) of past candles, the coming return (N,) and the driver (N,)."""
    n = N_TRAIN + N_TEST
    market = synthetic_market([PAIR], "5m", n, seed=8, signal=SIGNAL)[PAIR]
    driver = synthetic_driver([PAIR], n, seed=8)[PAIR]
    close = np.log(market["close"].to_numpy())
    change = np.diff(close, prepend=close[0])
    span = np.log(market["high"] / market["low"]).to_numpy()
    features = np.column_stack([np.log(market["volume"]), change, span])
    coming = np.full(n, np.nan)
    coming[:-HORIZON] = close[HORIZON:] - close[:-HORIZON]
    return features, coming, np.asarray(driver)


def correlation(values, truth):
    """Return the correlation and its standard error, from the spread over blocks of rows.

    Labels overlap over `HORIZON` rows and regimes last longer, so rows are not independent; blocks
    are nearly so.
    """
    known = np.isfinite(values) & np.isfinite(truth)
    a, b = (item[known] - item[known].mean() for item in (values, truth))
    products = a * b / (a.std() * b.std())
    blocks = products[: len(products) // BLOCK * BLOCK].reshape(-1, BLOCK).mean(axis=1)
    return products.mean(), blocks.std(ddof=1) / np.sqrt(len(blocks))


def trained(net, features, target, seed):
    model = SequenceRegressor(
        net,
        window=W,
        hidden_size=16,
        num_layers=1,
        max_epochs=12,
        patience=4,
        batch_size=128,
        learning_rate=3e-3,
        label_period=HORIZON,
        seed=seed,
        num_threads=1,
        progress=False,
    )
    return model.fit(features[:N_TRAIN], target[:N_TRAIN])


def linear(features, target):
    """Predict by least squares from the same windows: what a model without memory finds."""
    z = (features - features[:N_TRAIN].mean(0)) / features[:N_TRAIN].std(0)
    windows = np.lib.stride_tricks.sliding_window_view(z, W, axis=0).reshape(len(z) - W + 1, -1)
    design = np.column_stack([windows, np.ones(len(windows))])
    y = target[W - 1 :]
    fit = np.arange(len(y)) < N_TRAIN - W - HORIZON
    weights = np.linalg.solve(
        design[fit].T @ design[fit] + 10 * np.eye(design.shape[1]), design[fit].T @ y[fit]
    )
    return np.r_[np.full(W - 1, np.nan), design @ weights]


# The planted signal lies in the past, which a perceptron does not see.
WINDOWED = sorted(set(NETS) - {"mlp"})
# A TFT takes as long as all others together, an ALSTM as long as the other two.
LONG_NETS = {"alstm", "tft"}
RUNS = [
    *(
        pytest.param(net, 1, id=f"short-{net}", marks=[pytest.mark.slow] * (net in LONG_NETS))
        for net in WINDOWED
    ),
    *(pytest.param(net, 5, id=f"long-{net}", marks=pytest.mark.slow) for net in WINDOWED),
]


@pytest.mark.parametrize(("net", "n_seeds"), RUNS)
def test_nets_find_the_planted_signal_and_none_in_shuffled_labels(
    problem, record_figure, net, n_seeds
):
    """Catches a training that learns nothing, and a score that leaks from the label."""
    features, coming, driver = problem
    test = slice(N_TRAIN + W, None)
    attainable, _ = correlation(driver[test], coming[test])
    baseline, _ = correlation(linear(features, coming)[test], coming[test])
    shuffled = np.random.default_rng(0).permutation(np.nan_to_num(coming))
    found, null = [], []
    for seed in range(n_seeds):
        predicted = trained(net, features, coming, seed).predict(features[N_TRAIN:])
        found.append(correlation(predicted[W:], coming[test]))
        predicted = trained(net, features, shuffled, seed).predict(features[N_TRAIN:])
        null.append(correlation(predicted[W:], shuffled[test]))
    mean, error = np.mean(found, axis=0)
    null_mean, null_error = np.mean(null, axis=0)
    record_figure(
        f"learning, {net}, {n_seeds} seed(s): correlation with the coming return",
        f"{mean:+.3f} ± {error:.3f}; the hidden driver {attainable:+.3f}, linear {baseline:+.3f}; "
        f"shuffled labels {null_mean:+.3f} ± {null_error:.3f}",
    )
    assert attainable > 0.2
    assert mean > 0.6 * attainable
    assert abs(null_mean) < 4 * null_error
