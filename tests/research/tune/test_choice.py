"""What is chosen, and what may not have a say in it."""

from __future__ import annotations

import io
import json
import math
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from freqai_lstm_plugins.errors import ConfigError, DataError, TrainingError
from freqai_lstm_plugins.models.registry import load_model
from freqai_lstm_plugins.research.store import read_entry
from freqai_lstm_plugins.research.tune import holdout as holdout_module
from freqai_lstm_plugins.research.tune import luck as luck_module
from freqai_lstm_plugins.research.tune.choice import (
    Candidate,
    _best,
    choose,
    choose_cheapest,
    new_seeds,
)
from freqai_lstm_plugins.research.tune.freqai_config import freqai_config, write_config
from freqai_lstm_plugins.research.tune.holdout import HOLDOUT_FOLDER, OPENINGS, open_holdout
from freqai_lstm_plugins.research.tune.luck import ask_luck
from freqai_lstm_plugins.research.tune.objective import Runner, Worth, with_settings
from freqai_lstm_plugins.research.tune.page import plot_sections, write_page
from freqai_lstm_plugins.research.tune.parts import holdout_part, make_cut, tuning_part
from freqai_lstm_plugins.research.tune.session import _cut, open_session
from freqai_lstm_plugins.research.tune.storage import DEFAULT_TRIAL, default_url, open_storage
from freqai_lstm_plugins.research.tune.study import BELONGS, SETTINGS, completed, finished
from freqai_lstm_plugins.research.tune.summary import say, to_json

from .studies import N, asked, experiment, search, write_candles

optuna = pytest.importorskip("optuna")
for needed in ("arch", "purgedcv", "joblib", "lightgbm", "plotly", "jinja2"):
    pytest.importorskip(needed)

RUNNER = Runner()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_candles(tmp_path_factory.mktemp("candles"))


@pytest.fixture(scope="module")
def done(folder, tmp_path_factory):
    return search(folder, tmp_path_factory.mktemp("out"))


@pytest.fixture(scope="module")
def chosen(done):
    return choose(done, RUNNER)


@pytest.fixture(scope="module")
def opened(done, chosen):
    return open_holdout(done, chosen, RUNNER)


def candidate(number, scores, cost=1.0):
    instances = {str(place): value for place, value in enumerate(scores)}
    worth = Worth(instances, 1.0, cost, 1)
    return Candidate(number, number == 0, {}, 0.0, worth, cost)


def test_the_cheapest_within_one_standard_error_of_the_best_wins():
    best = candidate(3, [0.1, 0.3], cost=9.0)
    assert best.worth.error == pytest.approx(0.1)
    near, far = candidate(1, [0.1, 0.12], cost=5.0), candidate(0, [0.0, 0.19], cost=1.0)
    assert choose_cheapest([best, near, far]) is near
    # Of those that cost the same the better one.
    assert choose_cheapest([candidate(2, [0.15, 0.1], cost=5.0), best, near]).number == 2


def test_new_seeds_are_none_of_the_old():
    assert new_seeds((1, 2)) == (3, 4)
    assert new_seeds((2**32 - 1, 0)) == (1, 2)


def test_the_best_and_the_defaults_are_trained_from_new_seeds(folder, tmp_path):
    ranges = {"lightgbm": {"subsample": {"min": 0.3, "max": 0.9}}}
    session = search(folder, tmp_path, 7, ranges=ranges, changes={"seeds": [1]})
    found = choose(session, RUNNER)
    assert len(found.candidates) in (5, 6)
    assert any(one.is_default for one in found.candidates)
    assert found.winner in found.candidates
    for one in found.candidates:
        # The defaults take all rows, and depend on no seed.
        assert (one.first == one.worth.score) == one.is_default


def test_the_defaults_are_chosen_from_however_badly_they_did():
    study = optuna.create_study(direction="maximize")
    for number in range(8):
        # Trial 6 drew what trial 7 drew.
        attributes = {SETTINGS: {"n": 7 if number == 6 else number}, DEFAULT_TRIAL: number == 0}
        study.add_trial(optuna.create_trial(value=number, user_attrs=attributes))
    assert [one.number for one in _best(study)] == [7, 5, 4, 3, 2, 0]


def test_the_holdout_is_the_end_of_the_data(done, folder):
    dates = pd.read_csv(folder / "A.csv", parse_dates=["date"])["date"]
    assert done.cut.n_bars == round(0.2 * N)
    assert pd.Timestamp(done.cut.end) == dates.iloc[N - done.cut.n_bars - 1].tz_localize("UTC")
    calendar = done.task.started.dataset.calendar
    assert calendar[-1] == pd.Timestamp(done.cut.end)


def test_no_label_of_the_search_reaches_into_the_holdout(done):
    table = pd.read_parquet(done.task.base[0].tables[0].path)
    assert table["known_at"].max() <= pd.Timestamp(done.cut.end)
    assert table["label"].tail(2).isna().all()


def test_folds_of_the_holdout_lie_in_the_holdout(done, opened):
    jobs = list((done.asked.out / HOLDOUT_FOLDER).glob("models/**/metadata.json"))
    first = min(json.loads(path.read_text())["fold"]["test"]["first"] for path in jobs)
    assert pd.Timestamp(first) > pd.Timestamp(done.cut.end)
    assert opened.judgement.n_dates > 70


def test_noise_in_the_holdout_changes_no_trial_and_not_the_winner(done, chosen, tmp_path):
    noisy = write_candles(tmp_path / "data", noise_after=N - done.cut.n_bars)
    session = search(noisy, tmp_path / "out")
    known = [(one.value, one.params, one.user_attrs["settings"]) for one in completed(done.study)]
    found = [
        (one.value, one.params, one.user_attrs["settings"]) for one in completed(session.study)
    ]
    assert found == known
    winner = choose(session, RUNNER).winner
    assert (winner.number, winner.worth.score) == (chosen.winner.number, chosen.winner.worth.score)


def test_noise_before_the_cut_would_have_been_noticed(done, tmp_path):
    noisy = write_candles(tmp_path / "data", noise_after=N - done.cut.n_bars - 40)
    session = search(noisy, tmp_path / "out", 1)
    assert completed(session.study)[0].value != completed(done.study)[0].value


def test_winner_defaults_and_lightgbm_are_compared_in_pairs(opened):
    pairs = opened.judgement.comparisons[["model", "against"]].to_numpy().tolist()
    assert ["tuned", "defaults"] in pairs
    assert ["tuned", "lightgbm"] in pairs
    assert ["defaults", "lightgbm"] in pairs
    assert opened.page.is_file()


def test_the_opening_is_written_into_the_study(done, chosen, opened):
    kept = done.study.user_attrs[OPENINGS]
    assert len(kept) == 1
    assert kept[0]["n_trials"] == 4
    assert len(kept[0]["hash"]) == 64
    # To look again at the same is no second opening.
    assert len(open_holdout(done, chosen, RUNNER).openings) == 1


def test_a_second_opening_after_more_trials_is_told(done, chosen, opened, folder, tmp_path):
    told = "The holdout was opened twice, so its figures have chosen too."
    assert told not in say(chosen, opened, None)
    shutil.copytree(done.asked.out, tmp_path, dirs_exist_ok=True)
    session = search(folder, tmp_path, 5)
    again = open_holdout(session, chosen, RUNNER)
    assert [one["n_trials"] for one in again.openings] == [4, 5]
    assert told in say(chosen, again, None)


def test_luck_counts_all_trials(done, chosen):
    luck = ask_luck(done, chosen, RUNNER)
    assert luck.n_tried == len(finished(done.study))
    assert 0 <= luck.deflated_sharpe <= 1
    assert 0 <= luck.overfitting <= 1


def test_trials_without_a_score_deflate_the_winners_sharpe_too(done, chosen, monkeypatch):
    monkeypatch.setattr(luck_module, "_overfitting", lambda _: math.nan)
    before = ask_luck(done, chosen, RUNNER).deflated_sharpe
    monkeypatch.setattr(luck_module, "finished", lambda _: range(400))
    luck = ask_luck(done, chosen, RUNNER)
    assert luck.n_tried == 400
    assert luck.deflated_sharpe < before


def test_overfitting_is_how_often_the_best_of_a_half_disappoints_in_the_other():
    noise = np.random.default_rng(0).normal(size=(32, 8))
    # One that is always far above the others is the best of every half.
    skilled = noise.copy()
    skilled[:, 2] += 5.0
    assert luck_module._overfitting(pd.DataFrame(skilled)) == 0.0
    # What is good in four bars, and bad in all others, is always the wrong choice.
    swings = np.repeat(9.0 * np.eye(8) - 9.0 / 7 * (1 - np.eye(8)), 4, axis=0)
    assert luck_module._overfitting(pd.DataFrame(swings + noise)) > 0.9
    # Two that never differ are one, of which nobody is chosen.
    assert math.isnan(luck_module._overfitting(pd.DataFrame(noise[:, [0, 0]])))


def test_the_opening_is_written_down_before_anything_is_computed(
    done, chosen, monkeypatch, tmp_path
):
    noted = []

    def fail(*_):
        noted.extend(session.study.user_attrs[OPENINGS])
        raise TrainingError("no training ended")

    shutil.copytree(done.asked.out, tmp_path, dirs_exist_ok=True)
    session = open_session(replace(done.asked, out=tmp_path))
    before = len(session.study.user_attrs.get(OPENINGS, []))
    monkeypatch.setattr(holdout_module, "compare_rivals", fail)
    other = replace(chosen, winner=replace(chosen.winner, settings={"num_leaves": 3}))
    with pytest.raises(TrainingError, match="no training ended"):
        open_holdout(session, other, RUNNER)
    assert len(noted) == before + 1


def test_the_holdout_begins_where_it_did_when_the_data_have_grown(done, tmp_path):
    grown = write_candles(tmp_path / "data", n=N + 60)
    wanted = replace(done.asked, experiment=experiment(grown))
    kept, share = _cut(wanted, done.study.user_attrs[BELONGS], done.ranges, None)
    assert (kept, share) == (done.cut, 0.2)
    assert _cut(wanted, None, done.ranges, None)[0].n_bars == done.cut.n_bars + 12


def test_everything_found_is_plain_data(done, chosen, opened):
    found = json.loads(json.dumps(to_json(done, chosen, opened, None), allow_nan=False))
    assert found["settings"] == chosen.winner.settings
    assert len(found["candidates"]) == 4
    assert found["holdout"]["openings"][0]["n_trials"] == 4


def test_trials_without_a_score_are_nothing_to_choose_from(folder, tmp_path):
    with pytest.raises(DataError, match="No trial of the study has a score"):
        choose(open_session(asked(folder, tmp_path)), RUNNER)


@pytest.mark.parametrize(
    ("share", "error", "said"),
    [
        (0.01, DataError, r"has 4 of 420 dates, fewer than a label and a window need \(2 \+ 5\)"),
        (1.5, ConfigError, "must lie between 0 and 1, not 1.5"),
        (0.999, DataError, "leaves none to tune on"),
    ],
)
def test_a_holdout_that_is_none_is_said(folder, share, error, said):
    with pytest.raises(error, match=said):
        make_cut(experiment(folder), share, 5)


def test_fixed_dates_tune_on_validation_and_hold_out_the_test(folder):
    split = {
        "kind": "dates",
        "train": ["2020-01-01", "2020-10-31"],
        "valid": ["2020-11-01", "2021-02-28"],
        "test": ["2021-03-01", "2021-07-31"],
    }
    whole = experiment(folder, split=split)
    cut = make_cut(whole, 0.2, 5)
    assert cut.end.startswith("2021-02-26")
    tuned = tuning_part(whole, "lightgbm", cut)
    assert tuned.split.test == ("2020-11-01", "2021-02-28")
    assert tuned.split.valid is None
    assert holdout_part(whole, cut).split == whole.split
    del split["valid"]
    with pytest.raises(ConfigError, match=r"needs split\.valid to tune on"):
        make_cut(experiment(folder, split=split), 0.2, 5)


def test_the_page_shows_what_optuna_plots(done):
    text = write_page(done.study, done.asked.out).read_text(encoding="utf-8")
    for title in (
        "scores",
        "importance (fANOVA)",
        "importance (PED-ANOVA)",
        "parallel coordinates",
        "slices",
    ):
        assert f"<h2>The search: {title}</h2>" in text
    assert text.count("plotly-graph-div") >= 4


def test_the_study_opens_in_optunas_dashboard(done):
    dashboard = pytest.importorskip("optuna_dashboard")
    app = dashboard.wsgi(open_storage(default_url(done.asked.out)))

    def get(path):
        said = []
        asking = {"REQUEST_METHOD": "GET", "PATH_INFO": path, "wsgi.input": io.BytesIO()}
        content = b"".join(app(asking, lambda status, *_: said.append(status)))
        assert said == ["200 OK"]
        return json.loads(content)

    (study,) = get("/api/studies")["study_summaries"]
    assert study["study_name"] == "lightgbm"
    trials = get(f"/api/studies/{study['study_id']}")["trials"]
    assert [one["state"] for one in trials] == ["Complete"] * 4


def test_a_default_outside_the_ranges_hides_no_setting_from_the_importances(done):
    # 31 leaves are the default, and the ranges end at 8.
    figures = {part.name: part.charts[0][1] for part in plot_sections(done.study) if part.charts}
    for name in ("search_fanova", "search_pedanova"):
        assert set(figures[name].data[0].y) == {"num_leaves", "learning_rate"}


def test_the_report_on_the_holdout_shows_the_search(opened):
    text = opened.page.read_text(encoding="utf-8")
    assert "<h1>lightgbm, tuned, on the holdout</h1>" in text
    assert "<h2>Tuned, defaults and LightGBM</h2>" in text
    rivals = pd.read_csv(opened.page.parent / "tables" / "rivals.csv")
    assert ["tuned", "defaults"] in rivals[["model", "against"]].to_numpy().tolist()
    for title in ("trials", "scores", "importance (fANOVA)", "slices"):
        assert f"<h2>The search: {title}</h2>" in text
    table = (opened.page.parent / "tables" / "search.csv").read_text().splitlines()
    assert table[0] == "trial,state,score,seconds,num_leaves,learning_rate"
    assert len(table) == 5


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Hourly candles of two pairs under freqtrade's names."""
    place = write_candles(tmp_path_factory.mktemp("pairs"), n=300, freq="h")
    for name, pair in (("A", "BTC_USDT"), ("B", "ETH_USDT")):
        (place / f"{name}.csv").rename(place / f"{pair}-1h.csv")
    return place


@pytest.fixture(scope="module")
def tuned_net(pairs, tmp_path_factory):
    net = {"lstm": {"hidden_dim": 4, "max_epochs": 1, "num_layers": 1}}
    ranges = {"lstm": {"dropout": {"min": 0.0, "max": 0.2}, "window": {"choices": [5, 6]}}}
    changes = {"models": net, "seeds": [1], "split": {"folds": 1, "test_bars": 60}}
    out = tmp_path_factory.mktemp("net")
    session = search(pairs, out, 2, model="lstm", ranges=ranges, changes=changes)
    return session, choose(session, RUNNER)


def test_the_config_is_one_that_freqtrade_accepts(tuned_net, tmp_path):
    pytest.importorskip("freqtrade")
    from freqtrade.configuration.config_validation import validate_config_schema
    from freqtrade.enums import RunMode

    from freqai_lstm_plugins.freqai.settings import read_settings

    session, choice = tuned_net
    path = tmp_path / "user_data" / "config_tuned.json"
    write_config(session, choice, path)
    config = json.loads(path.read_text())
    assert config["freqaimodel"] == "LeaLSTMRegressor"
    assert config["timeframe"] == "1h"
    assert config["exchange"]["pair_whitelist"] == ["BTC/USDT", "ETH/USDT"]
    freqai = config["freqai"]
    settings = choice.winner.settings
    assert freqai["conv_width"] == settings["window"]
    assert freqai["feature_parameters"]["label_period_candles"] == 2
    assert freqai["model_training_parameters"] == {
        "model_kwargs": {"hidden_size": 4, "num_layers": 1, "dropout": settings["dropout"]},
        "trainer_kwargs": {"max_epochs": 1},
    }
    # As freqtrade checks a file, before the strategy adds its own.
    validate_config_schema({**config, "runmode": RunMode.BACKTEST}, preliminary=True)
    written = {**config, "user_data_dir": str(path.parent), "original_config": config}
    read = read_settings(written, "lstm")
    assert (read.window, read.train.max_epochs) == (settings["window"], 1)
    assert freqai["identifier"].startswith("tuned-lstm-")


def tuned_tree(pairs, out, kind, settings, ranges):
    changes = {"models": {kind: settings}, "seeds": [1], "split": {"folds": 1, "test_bars": 60}}
    session = search(pairs, out, 2, model=kind, ranges={kind: ranges}, changes=changes)
    return session, choose(session, RUNNER)


@pytest.mark.parametrize(("kind", "name"), [("lightgbm", "LGBM"), ("xgboost", "XGB")])
def test_the_trees_of_a_bot_are_those_that_were_tuned(pairs, tmp_path, kind, name):
    library = pytest.importorskip(kind)
    settings = {"n_estimators": 12, "subsample": 0.7, "loss": "mae"}
    shares = {"colsample_bytree": {"choices": [0.5, 0.8]}}
    session, choice = tuned_tree(pairs, tmp_path, kind, settings, shares)
    config = freqai_config(session, choice)
    parameters = config["freqai"]["model_training_parameters"]
    model = config["freqaimodel"]
    assert config["lea_strategy"]["model_training_parameters"][model] == parameters
    task = session.task
    jobs = [
        job
        for base in task.base
        for job in with_settings(task, base, choice.winner.settings, new_seeds((1,)))
    ]
    kept = [read_entry(task.started.out / job.place) for job in jobs]
    epochs = [entry.metadata["history"]["best_epoch"] for entry in kept]
    assert parameters["n_estimators"] == round(np.median(epochs))
    # The same rows through the library's own class, as freqtrade calls it.
    train = task.shared.inputs(jobs[0]).assembled.data.train
    rows, ends = train.rows.numpy(), train.ends.numpy()
    same = parameters | {"n_estimators": epochs[0], "random_state": jobs[0].seed, "n_jobs": 1}
    theirs = getattr(library, f"{name}Regressor")(**same, verbosity=-(kind == "lightgbm"))
    theirs.fit(rows[ends], train.targets.numpy()[:, 0], sample_weight=train.weights.numpy())
    has_window = np.zeros(len(rows), dtype=bool)
    has_window[ends] = True
    ours = load_model(kept[0].model_file).predict_windows(rows, has_window).point[ends, 0]
    np.testing.assert_allclose(theirs.predict(rows[ends]), ours, rtol=1e-4, atol=1e-6)


def test_a_bot_combines_members_as_was_chosen(pairs, tmp_path):
    from tests.freqai.host import make_model

    members = {"ridge": {}, "lightgbm": {"n_estimators": 4}}
    ranges = {"combine": {"choices": ["mean", "stack"]}}
    session, choice = tuned_tree(pairs, tmp_path, "ensemble", {"members": members}, ranges)
    config = freqai_config(session, choice)
    assert config["freqaimodel"] == "LeaEnsembleRegressor"
    parameters = config["freqai"]["model_training_parameters"]
    assert parameters == {"model_kwargs": {"members": members, **choice.winner.settings}}
    changes = {"freqai__model_training_parameters": parameters}
    model = make_model(tmp_path, freqaimodel="LeaEnsembleRegressor", **changes).new_ensemble()
    assert model.config.combine == choice.winner.settings["combine"]
    assert [member.name for member in model.members] == list(members)


def test_what_freqtrades_trees_cannot_do_is_not_left_out_of_a_config(pairs, tmp_path):
    settings = {"n_estimators": 4, "lags": [0, 1]}
    ranges = {"num_leaves": {"min": 2, "max": 4}}
    session, choice = tuned_tree(pairs, tmp_path, "lightgbm", settings, ranges)
    with pytest.raises(ConfigError, match=r"has nothing like lags = \[0, 1\]: tune it with \[0\]"):
        freqai_config(session, choice)


def test_other_settings_have_another_identifier(tuned_net):
    session, choice = tuned_net
    identifiers = {freqai_config(session, choice)["freqai"]["identifier"] for _ in range(2)}
    assert len(identifiers) == 1
    settings = {**choice.winner.settings, "dropout": choice.winner.settings["dropout"] + 0.01}
    other = replace(choice, winner=replace(choice.winner, settings=settings))
    identifiers.add(freqai_config(session, other)["freqai"]["identifier"])
    assert len(identifiers) == 2


def test_shares_cannot_be_traded_by_a_bot(done, chosen, tmp_path):
    with pytest.raises(ConfigError, match="A is no pair such as BTC/USDT"):
        write_config(done, chosen, tmp_path / "config.json")


def test_an_account_that_never_differs_has_no_luck(folder, tmp_path):
    ranges = {"lightgbm": {"num_leaves": {"min": 2, "max": 8}}}
    changes = {"portfolio": {"k": 2}}
    session = search(folder, tmp_path, 2, ranges=ranges, changes=changes)
    luck = ask_luck(session, choose(session, RUNNER), RUNNER)
    # Both symbols are always held, as equal weight holds them.
    assert luck.n_tried == 2
    assert np.isnan(luck.overfitting) or math.isfinite(luck.overfitting)
