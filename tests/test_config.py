from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from freqai_lstm_plugins.config import (
    ALIASES,
    NetConfig,
    TrainConfig,
    WindowConfig,
    field_names,
    parse_count,
    parse_settings,
    parse_train_settings,
    parse_window,
    split_settings,
)
from freqai_lstm_plugins.errors import ConfigError


def test_freqais_names_mean_the_same_as_torchs():
    theirs = {"hidden_dim": 32, "n_layer": 1, "dropout_percent": 0.1}
    ours = {"hidden_size": 32, "num_layers": 1, "dropout": 0.1}
    assert parse_settings(NetConfig, theirs, "x") == parse_settings(NetConfig, ours, "x")
    training = parse_settings(TrainConfig, {"n_epochs": 7, "early_stopping_patience": 3}, "x")
    assert (training.max_epochs, training.patience) == (7, 3)


def test_both_names_at_once_are_fine_where_they_agree():
    assert parse_settings(NetConfig, {"hidden_dim": 8, "hidden_size": 8}, "x").hidden_size == 8
    with pytest.raises(ConfigError, match=r"x: hidden_dim = 8 and hidden_size = 9"):
        parse_settings(NetConfig, {"hidden_dim": 8, "hidden_size": 9}, "x")


def test_the_users_dictionary_is_not_changed():
    given = {"hidden_dim": 8}
    parse_settings(NetConfig, given, "x")
    split_settings(given, (NetConfig, TrainConfig), "x")
    assert given == {"hidden_dim": 8}
    given = {"n_steps": 5}
    parse_train_settings(given, "x")
    assert given == {"n_steps": 5}


@pytest.mark.parametrize(("alias", "name"), ALIASES.items())
def test_every_name_of_freqai_stands_for_a_setting(alias, name):
    config = NetConfig if name in field_names(NetConfig) else TrainConfig
    value = 0.5 if name == "dropout" else 3
    assert parse_settings(config, {alias: value}, "x") == parse_settings(config, {name: value}, "x")
    # A message names the setting as the user wrote it.
    with pytest.raises(ConfigError, match=rf"x: {alias} must be .*, not -7"):
        parse_settings(config, {alias: -7}, "x")


def test_numpys_numbers_count_as_pythons():
    # A search over settings draws them.
    net = parse_settings(NetConfig, {"hidden_size": np.int64(8), "dropout": np.float32(0.5)}, "x")
    assert (net.hidden_size, net.dropout) == (8, 0.5)
    assert (type(net.hidden_size), type(net.dropout)) == (int, float)
    assert type(parse_window(np.int32(4), "x")) is int


def test_defaults_are_what_an_empty_dictionary_gives_and_obey_their_own_rules():
    for config in (NetConfig, TrainConfig, WindowConfig):
        assert parse_settings(config, {}, "x") == config()
        assert parse_settings(config, dataclasses.asdict(config()), "x") == config()


@pytest.mark.parametrize(
    ("config", "key"),
    [(config, key) for config in (NetConfig, TrainConfig) for key in field_names(config)],
)
def test_every_setting_refuses_what_is_of_another_kind(config, key):
    for bad in ({}, [1], object, True):
        with pytest.raises(ConfigError, match=rf"^x: {key} must be .*, not "):
            parse_settings(config, {key: bad}, "x")


@pytest.mark.parametrize("bad", [None, [], "hidden_size=8", 3])
def test_settings_are_a_dictionary(bad):
    for parse in (
        lambda: parse_settings(NetConfig, bad, "x"),
        lambda: parse_train_settings(bad, "x"),
        lambda: split_settings(bad, (NetConfig,), "x"),
    ):
        with pytest.raises(ConfigError, match="x must be a dictionary of settings, not "):
            parse()


def test_numbers_of_json_are_taken_for_what_they_mean():
    assert parse_settings(TrainConfig, {"batch_size": 64.0}, "x").batch_size == 64
    rate = parse_settings(TrainConfig, {"learning_rate": 1}, "x").learning_rate
    assert isinstance(rate, float)


def test_steps_alone_decide_how_long_to_train():
    assert parse_train_settings({"n_steps": 500}, "x").max_epochs is None
    assert parse_train_settings({"n_steps": 500, "n_epochs": 3}, "x").max_epochs == 3
    assert parse_train_settings({"n_steps": 500, "n_epochs": None}, "x").max_epochs is None
    with pytest.raises(ConfigError, match="max_epochs and n_steps are both null"):
        parse_train_settings({"n_epochs": None}, "x")


def test_an_unknown_key_is_refused_with_the_closest_one():
    with pytest.raises(ConfigError, match=r"x: unknown setting 'hiden_size'.*'hidden_size'"):
        parse_settings(NetConfig, {"hiden_size": 8}, "x")
    with pytest.raises(ConfigError, match=r"unknown setting 'zzz'. Known settings: hidden_size,"):
        parse_settings(NetConfig, {"zzz": 8}, "x")
    with pytest.raises(ConfigError, match=r"unknown setting 'bach_size'.*'batch_size'"):
        split_settings({"bach_size": 8}, (NetConfig, TrainConfig), "x")
    # FreqAI's names are hinted at too,
    with pytest.raises(ConfigError, match=r"'hiden_dim'. Did you mean 'hidden_dim'"):
        parse_settings(NetConfig, {"hiden_dim": 8}, "x")
    # but never a name that would be refused in turn.
    with pytest.raises(ConfigError, match=r"unknown setting 'hidden_dim'. Known settings: learn"):
        split_settings({"hidden_dim": 8}, (TrainConfig,), "x")
    with pytest.raises(ConfigError, match=r"unknown setting 'hidden_dim'. Known settings: learn"):
        parse_train_settings({"hidden_dim": 8}, "x")


BAD = [
    (NetConfig, {"hidden_size": 0}, "x: hidden_size must be an integer of at least 1, not 0"),
    (NetConfig, {"hidden_size": "8"}, "x: hidden_size must be an integer .*, not '8'"),
    (NetConfig, {"hidden_size": 8.5}, "x: hidden_size must be an integer .*, not 8.5"),
    (NetConfig, {"hidden_size": True}, "x: hidden_size must be an integer .*, not True"),
    (NetConfig, {"hidden_size": None}, "x: hidden_size must be an integer .*, not None"),
    (NetConfig, {"hidden_dim": -1}, "x: hidden_dim must be an integer .*, not -1"),
    (NetConfig, {"num_layers": 0}, "num_layers must be an integer of at least 1, not 0"),
    (NetConfig, {"dropout": 1}, "dropout must be a number from 0 up to, not including, 1, not 1.0"),
    (NetConfig, {"dropout": -0.1}, "dropout must be a number from 0"),
    (NetConfig, {"dropout": float("nan")}, "dropout must be a number from 0 .*, not nan"),
    (NetConfig, {"head_size": []}, r"head_size must be an integer of at least 0, not \[\]"),
    (TrainConfig, {"learning_rate": 0}, "learning_rate must be a number above 0, not 0.0"),
    (TrainConfig, {"learning_rate": float("inf")}, "learning_rate must be a number .*, not inf"),
    (TrainConfig, {"learning_rate": "fast"}, "learning_rate must be a number above 0, not 'fast'"),
    (TrainConfig, {"learning_rate": 10**400}, "learning_rate must be a number above 0, not 1000"),
    (TrainConfig, {"weight_decay": -1}, "weight_decay must be a number of at least 0"),
    (TrainConfig, {"max_epochs": 0}, "max_epochs must be an integer of at least 1, or null, not 0"),
    (TrainConfig, {"n_steps": 0}, "n_steps must be an integer of at least 1, or null"),
    (TrainConfig, {"batch_size": 0}, "batch_size must be an integer of at least 1"),
    (TrainConfig, {"patience": -1}, "patience must be an integer of at least 0"),
    (TrainConfig, {"gradient_clip": -1}, "gradient_clip must be a number of at least 0"),
    (TrainConfig, {"lr_schedule": "step"}, "lr_schedule must be one of plateau, cosine, none"),
    (TrainConfig, {"seed": -1}, "seed must be an integer from 0"),
    (TrainConfig, {"seed": 2**32}, "seed must be an integer from 0"),
    (TrainConfig, {"device": ""}, "device must be a device name"),
    (TrainConfig, {"num_threads": 0}, "num_threads must be an integer from 1 to 1024, or null"),
    (WindowConfig, {"filled_candles": 1}, "filled_candles must be one of break, keep, not 1"),
    (WindowConfig, [], r"x must be a dictionary of settings, not \[\]"),
]


@pytest.mark.parametrize(("config", "values", "message"), BAD, ids=lambda value: str(value)[:40])
def test_a_wrong_value_is_refused_with_key_and_value(config, values, message):
    with pytest.raises(ConfigError, match=message):
        parse_settings(config, values, "x")


@pytest.mark.parametrize("bad", [0, -1, 2.0, "24", None, True])
def test_a_window_is_an_integer_of_at_least_1(bad):
    with pytest.raises(
        ConfigError, match=f"conv_width must be an integer of at least 1, not {bad!r}"
    ):
        parse_window(bad, "conv_width")


def test_a_count_starts_where_it_is_told_to():
    assert parse_count(0, 0, "label_period") == 0
    with pytest.raises(ConfigError, match="label_period must be an integer of at least 0, not -1"):
        parse_count(-1, 0, "label_period")
