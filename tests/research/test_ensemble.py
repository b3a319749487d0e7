"""Ensembles in a comparison: as a model like any other, with labels only once they are known."""

from __future__ import annotations

import dataclasses
import json
import re
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from freqai_lstm_plugins.data.scaling import Scaling
from freqai_lstm_plugins.errors import ConfigError
from freqai_lstm_plugins.models.ensemble.combine import Follow
from freqai_lstm_plugins.models.ensemble.regressor import EnsembleRegressor
from freqai_lstm_plugins.research.forecasting import forecast
from freqai_lstm_plugins.research.started import start, train
from freqai_lstm_plugins.research.store import list_entries, load_predictions, reproduce
from tests.models.ensemble.windows import PERIOD, TREES, W, everywhere, prepared
from tests.research.processes import call
from tests.research.test_run import experiment, write_candles

for needed in ("arch", "purgedcv", "joblib", "lightgbm", "jinja2", "plotly"):
    pytest.importorskip(needed)

MEMBERS = {"ridge": {}, "lightgbm": {**TREES, "subsample": 0.8}, "lightgbm-2": TREES}
MODELS = {
    "ensemble": {"members": MEMBERS},
    "follower": {
        "kind": "ensemble",
        "members": {"ridge": {}, "naive_zero": {}},
        "combine": "dynamic",
        "interval": 0.5,
        "scope": "panel",
    },
    "still": {"kind": "ensemble", "members": {"ridge": {}, "naive_zero": {}}},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("candles")
    write_candles(path, "ABC")
    return path


@pytest.fixture(scope="module")
def done(folder, tmp_path_factory):
    given = experiment(folder, models=MODELS)
    run = train(start(given, tmp_path_factory.mktemp("out")), workers=1)
    assert run.failures.empty
    return run


def test_an_ensemble_is_compared_like_any_other_model(done):
    table = load_predictions(done.plan.jobs, done.out, [1, 2])
    sizes = table.groupby(["model", "seed", "fold", "symbol"]).size().unstack("model")
    assert {"ensemble", "follower", "still"} <= set(sizes)
    assert (sizes.to_numpy() == 60).all()
    assert table[table["model"] == "follower"]["lower"].notna().all()


def test_an_ensemble_is_trained_once_a_seed_only_where_a_member_draws(done):
    seeds = {name: {job.seed for job in done.plan.jobs if job.model == name} for name in MODELS}
    assert seeds == {"ensemble": {1, 2}, "follower": {1}, "still": {1}}


def test_every_ensemble_is_reproduced_from_its_file_bit_by_bit(done):
    entries = [e for e in list_entries(done.out) if e.metadata["kind"] == "ensemble"]
    # Of three symbols, two folds and two seeds; of a panel; of three symbols and one seed.
    assert len(entries) == 12 + 2 + 6
    for entry in entries:
        stored = entry.predictions()
        found = reproduce(entry, done.out)
        pd.testing.assert_frame_equal(found, stored[["date", "symbol", "prediction"]])


def test_the_report_shows_weights_over_time_and_how_alike_errors_are(done):
    from freqai_lstm_plugins.research.judgement import judge_run

    report = pd.read_csv(judge_run(done).parent / "tables" / "ensembles.csv")
    assert set(report["model"]) == set(MODELS)
    one = report[report["model"] == "ensemble"]
    assert list(one["fold"]) == [0, 1]
    weights = one[[f"w_{name}" for name in MEMBERS]]
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    assert one["effective_members"].between(1, 3).all()
    assert one["error_correlation"].between(-1, 1).all()
    assert one["error_beside_mean"].notna().all()


def test_the_window_and_the_reach_of_the_label_come_from_the_experiment(done):
    from freqai_lstm_plugins import load_model

    entry = next(e for e in list_entries(done.out) if e.metadata["model"] == "ensemble")
    model = load_model(entry.model_file)
    assert (model.window, model.config.label_period) == (5, 2)
    # Figures should not depend on how many cores there are.
    assert model.config.num_threads == 1
    assert json.dumps(entry.metadata["settings"])


def test_folds_of_a_panel_go_by_time(done):
    from freqai_lstm_plugins import load_model

    entry = next(e for e in list_entries(done.out) if e.metadata["model"] == "follower")
    weighed = load_model(entry.model_file).require_fitted().weighed[0]
    rows = entry.metadata["rows"]
    # The last half in time, of every symbol.
    assert weighed.n_rows == pytest.approx((rows["train"] + rows["valid"]) / 2, rel=0.05)


SMALL_RUN = """seeds = [1]
[data]
folder = "candles"
[features]
window = 5
[label]
horizon = 2
[split]
folds = 1
test_bars = 60
"""


def block_of_the_page():
    page = (Path(__file__).parents[2] / "docs" / "ensemble.md").read_text()
    command = "freqai-lstm compare ensembles.toml --out out/ensembles"
    assert f"\n{command}\n" in page
    (block,) = re.findall(r"```toml\n(.*?)```", page, flags=re.DOTALL)
    return command, block


def test_the_file_of_the_page_is_an_experiment(folder, tmp_path):
    models = tomllib.loads(block_of_the_page()[1])["models"]
    started = start(experiment(folder, models=models), tmp_path / "out")
    assert {"stack", "mean", "best", "seeds"} <= {job.model for job in started.plan.jobs}


@pytest.mark.slow
def test_the_command_and_the_file_of_the_page_run_word_for_word(tmp_path):
    command, block = block_of_the_page()
    # The same models, with nets that are trained in a moment.
    tiny = "hidden_size = 4, num_layers = 1, max_epochs = 1"
    block = block.replace("hidden_size = 32", tiny)
    block = re.sub(r"(lstm-\d) = \{\}", rf"\1 = {{ {tiny} }}", block)
    write_candles(tmp_path / "candles", "AB", 260)
    (tmp_path / "ensembles.toml").write_text(SMALL_RUN + block)
    result = call(*command.split()[1:], cwd=tmp_path)
    assert "Report: out/ensembles/report/report.html" in result.stdout
    table = pd.read_csv(tmp_path / "out" / "ensembles" / "report" / "tables" / "ensembles.csv")
    assert set(table["model"]) == {"stack", "mean", "best", "seeds"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"members": {"ligthgbm": {}}}, "models.ensemble: ensemble: .*Did you mean 'lightgbm'"),
        ({}, "models.ensemble: ensemble: members is empty"),
        ({"members": {"ridge": {}}, "folds": 0}, "models.ensemble: ensemble: folds must be"),
    ],
)
def test_a_wrong_setting_stops_the_run_before_the_first_training(
    folder, tmp_path, settings, message
):
    with pytest.raises(ConfigError, match=message):
        start(experiment(folder, models={"ensemble": settings}), tmp_path / "out")


@pytest.fixture(scope="module")
def follower():
    """A dynamic ensemble of a way to follow that was set by hand, and test rows of two symbols."""
    data = prepared(times=True)
    model = EnsembleRegressor({"ridge": {}, "naive_zero": {}}, window=W, combine="dynamic")
    model.fit_windows(data)
    weighed = dataclasses.replace(
        model.require_fitted().weighed[0],
        weights=[0.5, 0.5],
        follow=Follow(1.0, 20.0, 0.05, PERIOD, 1.0),
    )
    model.fitted = dataclasses.replace(model.require_fitted(), weighed=[weighed])
    rows, has_window = everywhere(prepared(400, seed=7))
    n = 200
    dates = pd.date_range("2024-01-01", periods=n, freq="D", tz="UTC")
    half = pd.DataFrame({"date": dates, "known_at": pd.Series(dates).shift(-PERIOD)})
    frame = pd.concat([half, half], ignore_index=True)
    frame["label"] = rows[:, 0].astype(float)
    frame.loc[frame["known_at"].isna(), "label"] = np.nan
    return model, rows, has_window, frame, np.repeat(["A", "B"], n)


UNIT = Scaling([0.0] * 4, [1.0] * 4, [0.0], [1.0])


def test_no_label_after_a_row_and_none_of_another_symbol_changes_its_forecast(follower):
    model, rows, wanted, frame, symbols = follower
    before = forecast(model, rows, wanted, frame, symbols, UNIT).point[:, 0]
    # The ridge tells the label, so with what is known its weight grows.
    assert abs(before[150] - frame["label"][150]) < abs(0.5 * frame["label"][150])
    changed = frame.copy()
    # Labels of A from row 100 - PERIOD + 1 on are known after row 100.
    changed.loc[101 - PERIOD : 199, "label"] = 50.0
    after = forecast(model, rows, wanted, changed, symbols, UNIT).point[:, 0]
    np.testing.assert_array_equal(before[:101], after[:101])
    np.testing.assert_array_equal(before[200:], after[200:])
    assert not np.allclose(before[101:200], after[101:200])


def test_a_label_that_is_known_late_counts_late(follower):
    model, rows, wanted, frame, symbols = follower
    before = forecast(model, rows, wanted, frame, symbols, UNIT).point[:, 0]
    late = frame.assign(known_at=frame["known_at"] + pd.Timedelta(days=500))
    point = forecast(model, rows, wanted, late, symbols, UNIT).point[:, 0]
    still = model.predict_windows(rows, wanted).point[:, 0]
    np.testing.assert_array_equal(point, still)
    assert not np.allclose(before[wanted], still[wanted])
