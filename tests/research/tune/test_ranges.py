"""What a file of ranges may say, and what is said of one that is wrong."""

from __future__ import annotations

import json

import pytest

from freqai_lstm_plugins.errors import ConfigError
from freqai_lstm_plugins.research.tune.ranges import (
    BUILTIN,
    Choices,
    Numbers,
    canonical_settings,
    contains,
    default_settings,
    describe,
    draw,
    grid,
    load_ranges,
    parse_ranges,
    write_ranges,
)

optuna = pytest.importorskip("optuna")
for needed in ("lightgbm", "xgboost", "sklearn"):
    pytest.importorskip(needed)

PUBLISHED = {
    "hidden_size": {"min": 32, "max": 128, "step": 16},
    "num_layers": {"min": 1, "max": 4},
    "dropout": {"min": 0.0, "max": 0.5},
    "lr": {"min": 0.0001, "max": 0.01, "log": True},
    "batch_size": {"min": 256, "max": 2048, "step": 256},
}


def drawn(ranges, n=200, seed=0):
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    return [draw(study.ask(), ranges) for _ in range(n)]


@pytest.fixture(autouse=True)
def _quiet():
    optuna.logging.set_verbosity(optuna.logging.ERROR)


@pytest.mark.parametrize("kind", ["lstm", "alstm", "gru"])
def test_published_ranges_work_word_for_word(kind):
    ranges = parse_ranges(PUBLISHED, kind, "ranges")
    found = drawn(ranges)
    assert {one["hidden_size"] for one in found} == set(range(32, 129, 16))
    assert {one["num_layers"] for one in found} == {1, 2, 3, 4}
    assert {one["batch_size"] for one in found} == set(range(256, 2049, 256))
    assert all(type(one["batch_size"]) is int for one in found)
    assert all(0.0001 <= one["learning_rate"] <= 0.01 for one in found)
    assert all(0 <= one["dropout"] <= 0.5 for one in found)


def test_a_larger_file_holds_ranges_of_several_models(tmp_path):
    path = tmp_path / "workflow.json"
    other = {"transformer": {"heads": {"min": 1, "max": 2}}}
    path.write_text(json.dumps({"task": {}, "tuning_ranges": {"lstm": PUBLISHED, **other}}))
    assert load_ranges(path, "lstm") == parse_ranges(PUBLISHED, "lstm", "x")


def test_a_model_of_the_experiment_is_looked_for_before_its_kind(tmp_path):
    path = tmp_path / "ranges.json"
    deep = {"num_layers": {"min": 3, "max": 4}}
    path.write_text(json.dumps({"lstm": PUBLISHED, "deep": deep}))
    assert list(load_ranges(path, "lstm", "deep")) == ["num_layers"]


@pytest.mark.parametrize(
    ("kind", "written", "name"),
    [
        ("lstm", "lr", "learning_rate"),
        ("lightgbm", "lr", "learning_rate"),
        ("lstm", "hidden_dim", "hidden_size"),
        ("gru", "n_layer", "num_layers"),
        ("lstm", "dropout_percent", "dropout"),
        ("lstm", "n_epochs", "max_epochs"),
        ("xgboost", "n_epochs", "n_estimators"),
        ("lstm", "early_stop", "patience"),
        ("lightgbm", "early_stop", "early_stopping_rounds"),
        ("lightgbm", "lambda_l1", "reg_alpha"),
        ("lightgbm", "num_leaves", "num_leaves"),
        ("ridge", "conv_width", "window"),
    ],
)
def test_names_of_other_programs_mean_ours(kind, written, name):
    is_share = name in ("learning_rate", "dropout", "reg_alpha")
    ends = {"min": 0.25, "max": 0.75} if is_share else {"min": 2, "max": 8}
    ranges = parse_ranges({written: ends}, kind, "r")
    assert list(ranges) == [name]


def test_whole_numbers_of_a_counted_setting_are_integers():
    ranges = parse_ranges(
        {"batch_size": {"min": 256.0, "max": 512.0}, "lr": {"min": 1, "max": 2}}, "lstm", "r"
    )
    assert ranges["batch_size"] == Numbers("batch_size", 256, 512, 1, False, True)
    assert type(ranges["batch_size"].low) is int
    # A rate counts nothing, whatever its ends look like.
    assert not ranges["learning_rate"].is_whole


def test_max_can_be_reached():
    ranges = parse_ranges(
        {"dropout": {"min": 0.1, "max": 0.4, "step": 0.1}, "n_layer": {"min": 1, "max": 2}},
        "lstm",
        "r",
    )
    found = drawn(ranges, 100)
    assert max(one["dropout"] for one in found) == pytest.approx(0.4)
    assert max(one["num_layers"] for one in found) == 2


def test_choices_are_given_as_the_model_takes_them():
    ranges = parse_ranges(
        {"cell_type": {"choices": ["gru", "lstm"]}, "batch_size": {"choices": [32.0, 64]}},
        "alstm",
        "r",
    )
    found = drawn(ranges, 50)
    assert {one["cell_type"] for one in found} == {"gru", "lstm"}
    assert {type(one["batch_size"]) for one in found} == {int}


def test_lists_may_be_chosen_from():
    ranges = parse_ranges({"lags": {"choices": [[0], [0, 1, 2]]}}, "ridge", "r")
    assert {tuple(one["lags"]) for one in drawn(ranges, 30)} == {(0,), (0, 1, 2)}


def test_a_value_is_fixed():
    ranges = parse_ranges(
        {"alpha": {"min": 0.1, "max": 1}, "lags": {"value": [0, 1]}}, "ridge", "r"
    )
    assert ranges["lags"] == Choices("lags", ([0, 1],))
    found = drawn(ranges, 5)
    assert all(one["lags"] == [0, 1] for one in found)


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("hidden_size", {"min": 64, "max": 32}, r"min = 64 is above max = 32: swap them"),
        ("lr", {"min": 0, "max": 1, "log": True}, r"log needs a min above 0, not 0"),
        ("lr", {"min": -1, "max": 1, "log": True}, r"log needs a min above 0, not -1"),
        (
            "hidden_size",
            {"min": 32, "max": 100, "step": 16},
            r"never reach max = 100; .* 96, .* 112",
        ),
        ("hidden_size", {"min": 32, "max": 64, "step": 0}, r"step must be above 0, not 0"),
        ("hidden_size", {"min": 32, "max": 64, "step": 64}, r"never reach max = 64"),
        ("hidden_size", {"min": True, "max": 64}, r"min must be a number, not True"),
        ("hidden_size", {"min": "32", "max": 64}, r"min must be a number, not '32'"),
        ("dropout", {"min": 0, "max": float("nan")}, r"max must be a number, not nan"),
        ("dropout", {"min": 0, "max": float("inf")}, r"max must be a number, not inf"),
        ("dropout", {"min": 0, "max": 1.5}, r"dropout must be a number from 0 up to"),
        ("hidden_size", {"min": 32.5, "max": 64}, r"min must be a whole number, not 32.5"),
        ("hidden_size", {"min": 1, "max": 10**400}, r"max must be at most 9,007,199,254,740,992"),
        ("hidden_size", {"min": 1, "max": 1e30}, r"max must be at most 9,007,199,254,740,992"),
        ("dropout", {"min": 0, "max": 0.4, "step": 1e-300}, r"step = 1e-300 makes more values"),
        (
            "dropout",
            {"min": 0, "max": 0.4, "step": float("nan")},
            r"step must be a number, not nan",
        ),
        ("hidden_size", {"min": 32}, r"lacks 'max'"),
        ("hidden_size", {"min": 32, "max": 32}, r'one value only: write {"value": 32}'),
        ("hidden_size", {"choices": [32]}, r'one choice only: write {"value": 32}'),
        ("hidden_size", {"choices": []}, r"choices must be a list of values"),
        ("hidden_size", {"choices": [32, 32.0]}, r"holds 32.0 twice"),
        ("hidden_size", {"choices": [32, "64"]}, r"hidden_size must be an integer"),
        ("hidden_size", {"choices": [32, 64], "min": 1}, r"a choice stands alone"),
        ("hidden_size", {"minimum": 32, "max": 64}, r"no 'minimum'. Did you mean 'min'"),
        ("hidden_size", {"min": 1, "max": 8, "log": 1}, r"log must be true or false, not 1"),
        ("hidden_size", {"min": 1, "max": 9, "step": 2, "log": True}, r"a step and log"),
        ("hidden_size", [32, 64], r"must be {\"min\": .., \"max\": ..}"),
        ("hiden_size", {"min": 1, "max": 8}, r"unknown setting 'hiden_size'. .*'hidden_size'"),
        ("loss", {"min": 1, "max": 8}, r"takes no numbers from min to max"),
        ("d_feat", {"min": 1, "max": 8}, r"d_feat is not tuned: .* comes from the data"),
        ("seed", {"min": 1, "max": 8}, r"seed is not tuned"),
        ("window", {"min": 0, "max": 8}, r"must be at least 1, not 0"),
        ("hidden_size", {"value": 32}, r"every setting has one value only"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(setting, value, said):
    with pytest.raises(ConfigError, match=said) as caught:
        parse_ranges({setting: value}, "lstm", "ranges.json: lstm")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("ranges.json: lstm")


def test_a_setting_under_two_names_is_refused():
    values = {"lr": {"min": 0.1, "max": 1}, "learning_rate": {"min": 0.1, "max": 1}}
    with pytest.raises(ConfigError, match="learning_rate has a range already"):
        parse_ranges(values, "lstm", "r")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is no valid JSON"),
        ("[" * 100_000, "is no valid JSON"),
        ('{"lstm": {"dropout": {"min": 0, "max": 0.1, "max": 0.5}}}', "'max' stands twice"),
        ("[1]", "must hold an object of models"),
        ('{"lsmt": {}}', "no ranges for lstm, only for lsmt. Did you mean 'lsmt'"),
        ('{"lstm": {}}', "must be an object of ranges"),
        ('{"lstm": {"dropout": {"min": 0, "max": NaN}}}', "max must be a number, not nan"),
    ],
)
def test_a_file_that_is_wrong_is_said_in_one_line(tmp_path, text, said):
    path = tmp_path / "ranges.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=said) as caught:
        load_ranges(path, "lstm")
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_said(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        load_ranges(tmp_path / "none.json", "lstm")


def test_a_model_without_settings_has_nothing_to_tune():
    with pytest.raises(ConfigError, match="naive_zero has no settings"):
        parse_ranges({"x": {"min": 1, "max": 2}}, "naive_zero", "r")


def test_an_unknown_model_is_refused():
    with pytest.raises(ConfigError, match="unknown model 'lsmt'"):
        parse_ranges(PUBLISHED, "lsmt", "r")


@pytest.mark.parametrize("kind", list(json.loads(BUILTIN.read_text())))
def test_built_in_ranges_are_ranges_of_their_model(kind):
    ranges = load_ranges(None, kind)
    defaults = default_settings(kind)
    assert set(ranges) <= {"window", *defaults}
    assert parse_ranges(describe(ranges), kind, "r") == ranges


def test_built_in_ranges_are_written_once(tmp_path):
    path = tmp_path / "ranges.json"
    write_ranges(path)
    assert load_ranges(path, "gru") == load_ranges(None, "gru")
    with pytest.raises(ConfigError, match="is there already"):
        write_ranges(path)


@pytest.mark.parametrize(
    ("value", "inside"), [(32, True), (40, False), (128, True), (129, False), (None, False)]
)
def test_a_range_knows_what_it_holds(value, inside):
    one = parse_ranges(PUBLISHED, "lstm", "r")["hidden_size"]
    assert contains(one, value) is inside
    if value is not None:
        trial = optuna.create_study().ask()
        draw(trial, {one.name: one})
        assert trial.distributions[one.name]._contains(value) is inside


def test_a_grid_goes_from_end_to_end():
    ranges = parse_ranges(PUBLISHED, "lstm", "r")
    found = grid(ranges, 3)
    assert found["num_layers"] == [1, 2, 4] or found["num_layers"] == [1, 3, 4]
    assert found["hidden_size"] == [32, 80, 128]
    assert found["learning_rate"] == pytest.approx([1e-4, 1e-3, 1e-2])
    assert found["learning_rate"][-1] == 0.01


def test_settings_of_an_experiment_get_the_names_of_the_package():
    found = canonical_settings({"lr": 0.1, "n_layer": 2, "odd": 1}, "lstm")
    assert found == {"learning_rate": 0.1, "num_layers": 2, "odd": 1}
