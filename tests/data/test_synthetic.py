from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from freqai_lstm_plugins.data.synthetic import synthetic_driver, synthetic_market
from freqai_lstm_plugins.errors import DataError

PAIRS = ["BTC/USDT", "ETH/USDT", "XYZ/USDT"]
N = 20_000


@pytest.mark.parametrize("timeframe", ["1m", "5m", "1d"])
def test_candles_are_consistent(timeframe: str) -> None:
    for candles in synthetic_market(PAIRS, timeframe, 3_000, seed=1).values():
        assert (candles["low"] > 0).all()
        assert (candles["low"] <= candles[["open", "close"]].min(axis=1)).all()
        assert (candles["high"] >= candles[["open", "close"]].max(axis=1)).all()
        assert (candles["volume"] > 0).all()
        assert (candles["open"].iloc[1:].to_numpy() == candles["close"].iloc[:-1].to_numpy()).all()
        assert candles["date"].diff().nunique() == 1


def test_the_same_seed_gives_the_same_candles() -> None:
    first, second = (synthetic_market(PAIRS, "5m", 500, seed=5) for _ in range(2))
    other = synthetic_market(PAIRS, "5m", 500, seed=6)
    for pair in PAIRS:
        pd.testing.assert_frame_equal(first[pair], second[pair], check_exact=True)
        assert not first[pair]["close"].equals(other[pair]["close"])


def test_a_pair_does_not_depend_on_the_other_pairs() -> None:
    alone = synthetic_market(["ETH/USDT"], "5m", 500, seed=5)["ETH/USDT"]
    together = synthetic_market(PAIRS, "5m", 500, seed=5)["ETH/USDT"]
    pd.testing.assert_frame_equal(alone, together, check_exact=True)


def test_pairs_move_together() -> None:
    market = synthetic_market(PAIRS, "5m", N, seed=2)
    returns = pd.DataFrame({pair: np.log(market[pair]["close"]).diff() for pair in PAIRS})
    correlations = returns.corr().to_numpy()[np.triu_indices(len(PAIRS), 1)]
    assert ((correlations > 0.35) & (correlations < 0.65)).all()


def test_volatility_comes_in_regimes() -> None:
    market = synthetic_market(["BTC/USDT"], "5m", N, seed=2)
    daily = market["BTC/USDT"]["close"].pct_change().rolling(288).std().dropna()
    assert daily.quantile(0.95) > 1.5 * daily.quantile(0.05)


def _rank_correlation(signal: float, hidden: bool) -> float:
    """Correlate the driver, or its visible trace in the volume, with the next candle's return."""
    market = synthetic_market(PAIRS, "5m", N, seed=4, signal=signal)
    drivers = synthetic_driver(PAIRS, N, seed=4)
    correlations = []
    for pair in PAIRS:
        quote_volume = market[pair]["volume"] * market[pair]["close"]
        known = drivers[pair] if hidden else quote_volume.rolling(12).mean()
        future = np.log(market[pair]["close"]).diff().shift(-1)
        ranks = pd.DataFrame({"known": known, "future": future}).dropna().rank()
        correlations.append(ranks.corr().to_numpy()[0, 1])
    return float(np.mean(correlations))


def test_the_driver_knows_the_next_return_as_well_as_the_signal_says() -> None:
    assert _rank_correlation(0.1, hidden=True) == pytest.approx(0.1, abs=0.02)
    assert _rank_correlation(0.3, hidden=True) == pytest.approx(0.3, abs=0.03)


def test_the_signal_shows_in_the_volume() -> None:
    assert _rank_correlation(0.1, hidden=False) > 0.05


def test_no_signal_leaves_noise() -> None:
    # Three pairs of N candles: the standard error of the mean is about 0.004.
    assert abs(_rank_correlation(0.0, hidden=True)) < 0.015
    assert abs(_rank_correlation(0.0, hidden=False)) < 0.015


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"signal": 1.0}, "signal"),
        ({"n_candles": 0}, "at least one candle"),
        ({"pairs": []}, "at least one pair"),
        ({"timeframe": "7m"}, "unknown timeframe '7m'"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, object], message: str) -> None:
    good: dict[str, object] = {"pairs": PAIRS, "timeframe": "5m", "n_candles": 10, "seed": 1}
    with pytest.raises(DataError, match=message):
        synthetic_market(**{**good, **settings})  # type: ignore[arg-type]
