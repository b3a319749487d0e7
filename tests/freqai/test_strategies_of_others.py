"""What people bring from elsewhere: nets and strategies in shapes that nobody here chose."""

from __future__ import annotations

import numpy as np
import pytest
from freqtrade.exceptions import OperationalException
from freqtrade.freqai.data_kitchen import FreqaiDataKitchen

from freqai_lstm_plugins.replay import aggregate, synthetic_market
from tests.freqai.host import PAIR, WINDOW, make_model, predict, train
from tests.freqai.walk import HORIZON, PER_DAY, SETTINGS, TIMEFRAME, SmallStrategy, backtest

MODEL_KWARGS = "freqai__model_training_parameters__model_kwargs"
TIMEFRAMES = [TIMEFRAME, "1h", "4h"]

# Its net asks the newest step of an LSTM which of the steps before it count.
ATTENTIVE_MODEL = """
import torch
from torch import nn

from freqai_lstm_plugins.freqai import SequenceRegressorModel


class AttentiveNet(nn.Module):
    def __init__(self, n_features, n_outputs, width, heads, layers):
        super().__init__()
        self.entry = nn.Sequential(nn.Linear(n_features, width), nn.Dropout(0.1))
        self.lstm = nn.LSTM(width, width, layers, batch_first=True)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.norm = nn.LayerNorm(width)
        self.exit = nn.Linear(2 * width, n_outputs)

    def forward(self, x):
        steps, _ = self.lstm(self.entry(x))
        newest = steps[:, -1:]
        seen, _ = self.attention(newest, steps, steps, need_weights=False)
        return self.exit(torch.cat([self.norm(newest + seen), newest], dim=2)[:, 0])


class AttentiveLSTM(SequenceRegressorModel):
    def build_net(self, n_features, n_outputs):
        return AttentiveNet(n_features, n_outputs, **self.model_kwargs)
"""


@pytest.fixture(scope="module")
def market():
    return synthetic_market([PAIR], TIMEFRAME, 6 * PER_DAY, seed=5)[PAIR]


def featured(model, market):
    """Return candles with the strategy's features of all timeframes, and its labels."""
    strategy = SmallStrategy(model.config)
    candles = {name: aggregate(market, TIMEFRAME, name) for name in TIMEFRAMES}
    kitchen = FreqaiDataKitchen(model.config, True, PAIR)
    frame = kitchen.use_strategy_to_populate_indicators(
        strategy, corr_dataframes={}, base_dataframes=candles, pair=PAIR
    )
    return kitchen.remove_special_chars_from_feature_names(frame).reset_index(drop=True)


def test_a_net_with_attention_over_three_timeframes_trains_and_comes_back(tmp_path, market):
    (tmp_path / "freqaimodels").mkdir()
    (tmp_path / "freqaimodels" / "AttentiveLSTM.py").write_text(ATTENTIVE_MODEL)
    changes = {
        **SETTINGS,
        "freqaimodel": "AttentiveLSTM",
        MODEL_KWARGS: {"width": 8, "heads": 2, "layers": 2},
        "freqai__feature_parameters__include_timeframes": TIMEFRAMES,
        "freqai__feature_parameters__include_shifted_candles": 1,
        "freqai__feature_parameters__DI_threshold": 1.0,
    }
    model = make_model(tmp_path, **changes)
    frame = featured(model, market)
    trained, kitchen = train(model, frame)
    assert all(any(name in text for text in trained.feature_names_in_) for name in TIMEFRAMES)
    before, counts = predict(model, frame)
    after, counts_after = predict(make_model(tmp_path, **changes), frame)
    np.testing.assert_array_equal(after, before)
    np.testing.assert_array_equal(counts_after, counts)
    # The index of dissimilarity lets most candles pass, and not all.
    warm = counts[int(np.flatnonzero(counts)[0]) :]
    assert 0.5 < warm.mean() < 1
    (file,) = kitchen.data_path.glob("*_model.zip")
    assert b"AttentiveNet" not in file.read_bytes()
    whole, tail = after.iloc[-1, 0], predict(model, frame.iloc[-WINDOW:])[0].iloc[-1, 0]
    assert tail == pytest.approx(whole, abs=1e-6)


class ScoreStrategy(SmallStrategy):
    """Foretells a score of several indicators, and buys where it is unusually high."""

    def set_freqai_targets(self, dataframe, metadata, **kwargs):
        close, volume = dataframe["close"], dataframe["volume"]
        parts = [close.pct_change(8), close / close.rolling(24).mean(), volume]
        scaled = [(part - part.rolling(48).mean()) / part.rolling(48).std() for part in parts]
        return dataframe.assign(**{"&-score": sum(scaled).shift(-HORIZON)})

    def populate_entry_trend(self, dataframe, metadata):
        unusual = dataframe["&-score"] > dataframe["&-score_mean"] + dataframe["&-score_std"] / 10
        is_sure = dataframe["do_predict"] == 1
        return dataframe.assign(enter_long=(unusual & is_sure).astype(int))


def test_a_strategy_of_scores_trades_once_its_setting_has_the_right_name(tmp_path, market):
    kwargs = {"hidden_dim": 8, "dropout_percent": 0.4}
    match = r"model_kwargs: unknown setting 'num_lstm_layers'.*Did you mean 'num_layers'\?"
    with pytest.raises(OperationalException, match=match):
        make_model(tmp_path, **{MODEL_KWARGS: {**kwargs, "num_lstm_layers": 2}})
    predicted, model = backtest(
        tmp_path, market, ScoreStrategy, **{MODEL_KWARGS: {**kwargs, "num_layers": 2}}
    )
    assert model.settings.model_kwargs["num_layers"] == 2
    backtested = predicted.iloc[2 * PER_DAY :]
    assert (backtested["do_predict"] == 1).all()
    entries = ScoreStrategy(model.config).populate_entry_trend(backtested, {})["enter_long"]
    assert 0 < entries.mean() < 0.6
