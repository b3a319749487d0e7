"""Slices of a backtest that fail, are empty, or were stored for other labels."""

from __future__ import annotations

import logging

import pandas as pd
import pytest
from freqtrade.exceptions import OperationalException

from freqai_lstm_plugins.replay import synthetic_market
from tests.freqai.host import PAIR
from tests.freqai.walk import PER_DAY, ClassStrategy, SmallStrategy, backtest, run

CLASSIFIER = {"freqaimodel": "LeaLSTMClassifier"}
TRAINING = "freqai__model_training_parameters__trainer_kwargs"
INTERVAL = {f"{TRAINING}__interval": 0.8}
KINDS = {
    "regressor": (SmallStrategy, {}, ["&-return"]),
    "interval": (SmallStrategy, INTERVAL, ["&-return", "&-return_lower", "&-return_upper"]),
    "classifier": (ClassStrategy, CLASSIFIER, ["&-direction", "down", "up"]),
}


@pytest.fixture(scope="module")
def market():
    return synthetic_market([PAIR], "15m", 6 * PER_DAY, seed=1)[PAIR]


@pytest.fixture(params=KINDS)
def kind(request):
    return KINDS[request.param]


def stored(folder):
    return sorted(folder.glob("models/test/backtesting_predictions/*.feather"))


def inside(predicted):
    """Return the rows that are backtested."""
    return predicted.iloc[2 * PER_DAY :]


# a training that failed is no result


def test_failed_slices_are_not_stored_and_trained_once_the_cause_is_mended(
    tmp_path, market, caplog, monkeypatch, kind
):
    strategy, changes, columns = kind
    with monkeypatch.context() as patch:
        patch.setattr(
            "freqai_lstm_plugins.freqai.model.SequenceModel.fit",
            lambda *arguments, **more: 1 / 0,
        )
        predicted, _ = backtest(tmp_path, market, strategy, **changes)
    assert (predicted["do_predict"] == 0).all()
    assert (inside(predicted)[columns] == 0).all(axis=None)
    assert stored(tmp_path) == []
    (line,) = [text for text in caplog.messages if "could not be trained" in text]
    assert line.startswith(f"{PAIR}: 4 of 4 slices could not be trained")
    assert line.endswith("ZeroDivisionError: division by zero")
    again, _ = backtest(tmp_path, market, strategy, **changes)
    assert (inside(again)["do_predict"] == 1).all()
    assert len(stored(tmp_path)) == 4


def test_zeros_that_an_earlier_version_stored_for_a_failure_are_trained_again(
    tmp_path, market, caplog, kind
):
    strategy, changes, columns = kind
    backtest(tmp_path, market, strategy, **changes)
    for path in tmp_path.glob("models/test/sub-train-*/*_model.zip"):
        path.unlink()
    path = stored(tmp_path)[1]
    frame = pd.read_feather(path).assign(**dict.fromkeys([*columns, "do_predict"], 0))
    frame.to_feather(path)
    caplog.set_level(logging.INFO)
    again, _ = backtest(tmp_path, market, strategy, **changes)
    assert caplog.text.count("Done training") == 1
    assert (inside(again)["do_predict"] == 1).all()


def test_the_failures_of_all_pairs_are_counted_at_the_end(tmp_path, market, caplog, monkeypatch):
    monkeypatch.setattr(
        "freqai_lstm_plugins.freqai.model.SequenceModel.fit", lambda *arguments, **more: 1 / 0
    )
    pairs = [PAIR, "ETH/USDT"]
    _, model = backtest(tmp_path, market, exchange__pair_whitelist=pairs)
    assert "In all pairs" not in caplog.text
    run(model, market)
    assert "In all pairs 8 slices could not be trained." in caplog.text


def test_a_slice_without_enough_candles_is_skipped_in_one_line(tmp_path, market, caplog):
    # Of the first two days there is only the end.
    late = market.iloc[2 * PER_DAY - 3 :].reset_index(drop=True)
    days = market["date"].dt.floor("D")
    timerange = f"{days.iloc[2 * PER_DAY]:%Y%m%d}-{days.iloc[-1]:%Y%m%d}"
    predicted, _ = backtest(tmp_path, late, timerange=timerange)
    assert "slices could not be trained" in caplog.text
    assert "Traceback" not in caplog.text
    assert predicted["do_predict"].iloc[-PER_DAY - 1 :].max() == 1


class NoNames(ClassStrategy):
    def set_freqai_targets(self, dataframe, metadata, **kwargs):
        frame = super().set_freqai_targets(dataframe, metadata, **kwargs)
        self.freqai.class_names = []
        return frame


class LabelIsFeature(SmallStrategy):
    def set_freqai_targets(self, dataframe, metadata, **kwargs):
        frame = super().set_freqai_targets(dataframe, metadata, **kwargs)
        return frame.rename(columns={"&-return": "&-return_%"})


class LabelNamedAsAnEnd(SmallStrategy):
    def set_freqai_targets(self, dataframe, metadata, **kwargs):
        frame = super().set_freqai_targets(dataframe, metadata, **kwargs)
        return frame.assign(**{"&-return_upper": frame["&-return"].abs()})


class TwoLabels(ClassStrategy):
    def set_freqai_targets(self, dataframe, metadata, **kwargs):
        frame = super().set_freqai_targets(dataframe, metadata, **kwargs)
        return frame.assign(**{"&-other": frame["&-direction"]})


@pytest.mark.parametrize(
    ("strategy", "changes", "message"),
    [
        (NoNames, CLASSIFIER, r"class_names is \[\]: set a list of at least two"),
        (LabelIsFeature, {}, "'&-return_%' is a label by its '&' and a feature by its '%'"),
        (LabelNamedAsAnEnd, INTERVAL, "label '&-return_upper' are both named '&-return_upper'"),
        (TwoLabels, CLASSIFIER, "a classifier predicts one label, the strategy sets 2"),
    ],
)
def test_what_no_slice_can_be_trained_with_ends_the_backtest_in_one_line(
    tmp_path, market, caplog, strategy, changes, message
):
    with pytest.raises(OperationalException, match=message) as caught:
        backtest(tmp_path, market, strategy, **changes)
    assert "\n" not in str(caught.value)
    assert "Traceback" not in caplog.text
    assert stored(tmp_path) == []


# predictions of other labels


class OtherLabel(SmallStrategy):
    def set_freqai_targets(self, dataframe, metadata, **kwargs):
        frame = super().set_freqai_targets(dataframe, metadata, **kwargs)
        return frame.rename(columns={"&-return": "&-other"})


class OneMoreLabel(SmallStrategy):
    def set_freqai_targets(self, dataframe, metadata, **kwargs):
        frame = super().set_freqai_targets(dataframe, metadata, **kwargs)
        return frame.assign(**{"&-other": frame["&-return"].abs()})


class OtherClasses(ClassStrategy):
    def set_freqai_targets(self, dataframe, metadata, **kwargs):
        frame = super().set_freqai_targets(dataframe, metadata, **kwargs)
        self.freqai.class_names = ["down", "up", "flat"]
        return frame


class TargetsFromFeatures(SmallStrategy):
    """The label needs the features, as one in units of a recent range does."""

    def set_freqai_targets(self, dataframe, metadata, **kwargs):
        frame = super().set_freqai_targets(dataframe, metadata, **kwargs)
        range_ = next(name for name in frame if name.startswith("%-range"))
        return frame.assign(**{"&-return": frame["&-return"] / (frame[range_] + 1e-3)})


@pytest.mark.parametrize(
    ("first", "second", "changes", "message"),
    [
        (SmallStrategy, OtherLabel, {}, "holds predictions of BTC/USDT of &-return, and .*&-other"),
        (SmallStrategy, OneMoreLabel, {}, "of &-return, and the .* asks for &-return, &-other"),
        (OneMoreLabel, SmallStrategy, {}, "of &-return, &-other, and the .* asks for &-return"),
        (ClassStrategy, OtherClasses, CLASSIFIER, "&-direction, down, up, and .*down, up, flat"),
        (OtherClasses, ClassStrategy, CLASSIFIER, "down, up, flat, and the .* down, up"),
    ],
)
@pytest.mark.parametrize("is_stored", [True, False], ids=["predictions", "models alone"])
def test_results_of_other_labels_under_the_identifier_are_refused(
    tmp_path, market, first, second, changes, message, is_stored
):
    backtest(tmp_path, market, first, **changes)
    if not is_stored:
        message = "trained on|identifier"
        for path in stored(tmp_path):
            path.unlink()
    with pytest.raises(OperationalException, match=message):
        backtest(tmp_path, market, second, **changes)
    again, _ = backtest(tmp_path, market, second, freqai__identifier="another", **changes)
    assert (inside(again)["do_predict"] == 1).all()


@pytest.mark.parametrize("strategy", [SmallStrategy, TargetsFromFeatures])
def test_results_of_the_same_labels_are_found_again(tmp_path, market, caplog, strategy):
    first, _ = backtest(tmp_path, market, strategy)
    caplog.set_level(logging.INFO)
    caplog.clear()
    again, _ = backtest(tmp_path, market, strategy)
    assert "Starting training" not in caplog.text
    assert caplog.text.count("Found backtesting prediction file") == 4
    pd.testing.assert_frame_equal(again[["&-return"]], first[["&-return"]])


def test_a_damaged_slice_or_its_metadata_is_made_again(tmp_path, market, caplog):
    first, _ = backtest(tmp_path, market)
    stored(tmp_path)[0].write_bytes(b"cut")
    metadata = sorted(tmp_path.glob("models/test/sub-train-*/*_metadata.json"))[1]
    metadata.write_text("{}")
    again, _ = backtest(tmp_path, market)
    assert caplog.text.count("are made again, as they or their metadata cannot be read") == 2
    pd.testing.assert_frame_equal(again[["&-return"]], first[["&-return"]])


# a pair whose candles end in mid-range


def test_a_pair_whose_candles_end_keeps_what_it_has(tmp_path, market, caplog, kind):
    strategy, changes, columns = kind
    days = market["date"].dt.floor("D")
    timerange = f"{days.iloc[2 * PER_DAY]:%Y%m%d}-{days.iloc[-1]:%Y%m%d}"
    whole, _ = backtest(tmp_path / "whole", market, strategy, **changes)
    caplog.set_level(logging.INFO)
    caplog.clear()
    ended = market.iloc[: 3 * PER_DAY + 10]
    predicted, _ = backtest(tmp_path, ended, strategy, timerange=timerange, **changes)
    # Nothing is trained for a slice without candles.
    assert caplog.text.count("Done training") == 2
    assert "could not be trained" not in caplog.text
    assert len(predicted) == len(ended)
    both = [*columns, "do_predict"]
    pd.testing.assert_frame_equal(
        predicted[both], whole[both].iloc[: len(ended)], check_dtype=False, atol=1e-6
    )


def test_a_pair_without_candles_in_the_range_gets_zeros_in_every_column(tmp_path, market, kind):
    strategy, changes, columns = kind
    days = market["date"].dt.floor("D")
    timerange = f"{days.iloc[3 * PER_DAY]:%Y%m%d}-{days.iloc[-1]:%Y%m%d}"
    early = market.iloc[: 3 * PER_DAY]
    predicted, _ = backtest(tmp_path, early, strategy, timerange=timerange, **changes)
    assert len(predicted) == len(early)
    assert (predicted[[*columns, "do_predict"]] == 0).all(axis=None)


def test_a_pair_whose_candles_end_is_predicted_by_models_on_disk(tmp_path, market, kind):
    strategy, changes, columns = kind
    days = market["date"].dt.floor("D")
    timerange = f"{days.iloc[2 * PER_DAY]:%Y%m%d}-{days.iloc[-1]:%Y%m%d}"
    backtest(tmp_path, market, strategy, timerange=timerange, **changes)
    for path in stored(tmp_path):
        path.unlink()
    ended = market.iloc[: 3 * PER_DAY]
    predicted, _ = backtest(tmp_path, ended, strategy, timerange=timerange, **changes)
    assert (inside(predicted)["do_predict"] == 1).all()
    assert predicted[columns].notna().all(axis=None)
    assert len(inside(predicted)) == PER_DAY
