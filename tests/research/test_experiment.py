from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from freqai_lstm_plugins.errors import ConfigError, DataError
from freqai_lstm_plugins.research.checks import CheckLimits
from freqai_lstm_plugins.research.experiment import (
    TEMPLATE,
    check_limits,
    experiment_hash,
    load_experiment,
    make_folds,
    make_labels,
    parse_experiment,
    resolved,
    save_experiment,
    with_overrides,
    write_template,
)
from freqai_lstm_plugins.research.experiment_schema import (
    BASELINES,
    MODEL_KINDS,
    Experiment,
    ModelSection,
)

SMALL = {"data": {"folder": "data"}, "models": {"lstm": {}}}


def changed(*overrides):
    return parse_experiment(with_overrides(SMALL, overrides))


def test_the_template_is_an_experiment_of_defaults():
    experiment = load_experiment(TEMPLATE)
    assert experiment.models["lstm"].kind == "lstm"
    same = parse_experiment({**SMALL, "models": {"lstm": {}, "lightgbm": {}}})
    assert (experiment.split, experiment.label, experiment.features) == (
        same.split,
        same.label,
        same.features,
    )


def test_the_template_names_every_key():
    text = TEMPLATE.read_text()
    for name, field in Experiment.model_fields.items():
        keys = getattr(field.annotation, "model_fields", {name: None})
        if name != "models":
            lacking = [key for key in keys if f"{key} = " not in text]
            assert lacking == [], name
    for key in ModelSection.model_fields.keys() - {"settings"}:
        assert f"{key} = " in text


def test_every_key_that_the_template_only_shows_is_a_key():
    section, shown = "", []
    for line in TEMPLATE.read_text().splitlines():
        if match := re.fullmatch(r"(?:# )?\[(.+)\]", line):
            section = match[1]
        elif match := re.fullmatch(r"# (\w+ = .+)", line):
            shown.append(f"{section}.{match[1]}")
    assert len(shown) > 12
    faults = [fault_of(override, "models.lstm_panel.kind=lstm") for override in shown]
    # Some keys need another one beside them.
    allowed = re.compile("goes with|takes dates|only scope|^$")
    assert [fault for fault in faults if not allowed.search(fault)] == []


def fault_of(*overrides):
    """Return what is said against the template with these overrides; nothing if nothing is."""
    try:
        load_experiment(TEMPLATE, overrides)
    except ConfigError as error:
        return str(error)
    return ""


def test_a_template_is_written_where_no_file_is(tmp_path):
    path = tmp_path / "vn30.toml"
    write_template(path)
    assert path.read_text() == TEMPLATE.read_text()
    with pytest.raises(ConfigError, match="is there already"):
        write_template(path)


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("split.kind=dates", "split.train=[2012-01-01, 2020-12-31]", "split.test=['2022','2023']"),
        ("models.a.kind=lstm", "models.a.scope=panel", "models.a.symbol_embedding=3"),
        ('models.lstm={hidden_size=64, layers=[1,2], name="ä \\"q\\"", deep={x={y=1e-5}}}',),
        ("data.symbols=['BTC/USDT']", "data.price_limit=0.07", "label.clip=3", "output.folder=o"),
        ("features.sets=['alpha158','columns']", "features.columns=['%-rsi']"),
    ],
)
def test_a_saved_experiment_is_loaded_equal(tmp_path, overrides):
    experiment = changed(*overrides)
    save_experiment(experiment, tmp_path / "experiment.toml")
    again = load_experiment(tmp_path / "experiment.toml")
    assert again == experiment
    assert experiment_hash(again) == experiment_hash(experiment)
    assert list(again.models) == list(experiment.models)


def test_the_hash_counts_what_changes_a_figure_and_nothing_else():
    hashed = experiment_hash(changed())
    same = [("output.folder=elsewhere", "output.title=Mine"), ("label.kind=return",)]
    assert {experiment_hash(changed(*overrides)) for overrides in same} == {hashed}
    other = ["seeds=[1,2]", "label.horizon=5", "models.lstm.hidden_size=8", "costs.buy=0.002"]
    hashes = {experiment_hash(changed(override)) for override in other}
    assert len(hashes | {hashed}) == 5


def test_the_order_of_models_and_keys_does_not_change_the_hash():
    one = parse_experiment({**SMALL, "models": {"lstm": {"a": 1, "b": 2}, "gru": {}}})
    other = parse_experiment(
        {"models": {"gru": {}, "lstm": {"b": 2, "a": 1}}, "data": SMALL["data"]}
    )
    assert experiment_hash(one) == experiment_hash(other)


def test_baselines_take_part_unasked():
    assert {"lstm", *BASELINES} == set(changed().models)
    mine = changed("models.trees.kind=lightgbm", "models.trees.num_leaves=7")
    # Verdicts know LightGBM by its name.
    assert set(BASELINES) < set(mine.models)
    assert mine.models["trees"].settings == {"num_leaves": 7}


def test_baselines_of_panels_are_panels():
    assert changed("models.lstm.scope=panel").models["ridge"].scope == "panel"
    both = changed("models.lstm.scope=panel", "models.gru.scope=symbol")
    assert both.models["ridge"].scope == "symbol"


@pytest.mark.parametrize("kind", MODEL_KINDS)
def test_every_kind_of_model_can_be_named(kind):
    assert changed(f"models.mine.kind={kind}").models["mine"].kind == kind


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("split.embrago=3", "unknown key split.embrago = 3. Did you mean split.embargo?"),
        ("labell.kind=qlib", "unknown key labell. Did you mean label?"),
        ("output.zzz=1", "unknown key output.zzz = 1. Known: folder, title."),
        ("split.horizon=5", "unknown key split.horizon = 5. Did you mean label.horizon?"),
        ("label.kind=retrun", "label.kind = 'retrun' is none of return, volatility_scaled, qlib, "),
        ("label.kind=retrun", "Did you mean return?"),
        ("features.sets=['alpha159']", "features.sets[0] = 'alpha159' is none of indicators"),
        ("models.lgihtgbm.x=1", "models.lgihtgbm is no model and has no kind"),
        ("models.lgihtgbm.x=1", "Did you mean lightgbm?"),
        ("models.a.kind=lstmm", "models.a.kind = 'lstmm' is no model. Did you mean lstm?"),
        ("models.lstm.scope=pannel", "models.lstm.scope = 'pannel' is none of symbol, panel"),
        ("models.lstm.seed=3", "models.lstm: seed = 3 would train every seed alike"),
        ("models.ridge.kind=lstm", "models.ridge.kind = 'lstm' is another kind than the name"),
        ("models.lstm=3", "models.lstm = 3 must be a table of keys."),
        ("models.'a/b'.kind=lstm", "models.'a/b': a model's name holds letters"),
        ("models.lstm.when=2024-01-01", "models.lstm.when: datetime.date(2024, 1, 1) is neither"),
        ("models.lstm.symbol_embedding=4", "models.lstm: symbol_embedding = 4 tells symbols apart"),
        ("split.folds=0", "split.folds = 0 must be greater than or equal to 1."),
        ("split.folds=true", "split.folds = True must be a valid integer."),
        ("label.horizon=5.5", "label.horizon = 5.5 must be a valid integer."),
        ("label.clip=inf", "label.clip = inf must be a finite number."),
        ("costs.buy=0.9", "costs.buy = 0.9 must be less than 0.5."),
        ("costs.buy=0.3", "costs of a purchase and its sale come to 0.301 of the value"),
        ("data.folder=''", "data.folder = '' is no path: name a folder."),
        ('output.folder="\\u0000"', r"output.folder = '\x00' is no path: name a folder."),
        ("data.start='12:00'", "data.start = '12:00' is no date"),
        ("data.end=now", "data.end = 'now' is no date"),
        ("data.folder=3", "data.folder = 3 must be a valid string."),
        ("data.start=soon", "data.start = 'soon' is no date: write 2024-12-31"),
        ("data.symbols=['A','B','A']", "holds 'A' twice: name it once."),
        ("seeds=[1,1]", "seeds = [1, 1] holds 1 twice: name it once."),
        ("seeds=[true]", "seeds[0] = True must be a valid integer."),
        ("seeds=[-1]", "seeds[0] = -1 must be greater than or equal to 0."),
        ("seeds=[]", "seeds = [] holds 0 values, fewer than 1."),
        ("seeds=3", "seeds = 3 must be a list."),
        ("label.horizon=250", "split.test_bars = 250 holds no label, which takes 250 bars"),
        ("split.train_bars=50", 'split.train_bars goes with split.window = "rolling"'),
        ("split.window=rolling", 'split.train_bars goes with split.window = "rolling"'),
        ("split.kind=dates", 'split.train is missing with split.kind = "dates".'),
        ("split.test=[2024-01-01, 2024-02-01]", 'only split.kind = "dates" takes dates'),
        ("split.test=[2024-01-01]", "split.test[1] is missing"),
        ("portfolio.kind=long_short", "needs portfolio.can_short = true"),
        ("features.columns=['%-rsi']", 'features.sets lacks "columns": add it'),
        ("label.kind=column", 'label.column goes with label.kind = "column"'),
        ("label.column=x", 'label.column goes with label.kind = "column"'),
    ],
)
def test_what_is_wrong_is_said_in_one_line_with_key_and_value(override, message):
    with pytest.raises(ConfigError) as caught:
        parse_experiment(with_overrides(SMALL, [override]), "vn30.toml")
    said = str(caught.value)
    assert said.startswith("vn30.toml: ")
    assert message in said
    assert "\n" not in said
    assert "more after that" not in said


def test_further_faults_are_counted():
    with pytest.raises(ConfigError, match=r"\(1 more after that.\)"):
        changed("split.folds=0", "costs.buy=0.9")


def test_missing_sections_are_named():
    with pytest.raises(ConfigError, match="data is missing: add it"):
        parse_experiment({"models": {"lstm": {}}})
    with pytest.raises(ConfigError, match=r"unknown key dta. Did you mean data\?"):
        parse_experiment({"models": {"lstm": {}}, "dta": {"folder": "x"}})
    with pytest.raises(ConfigError, match=r"data.folder is missing: add it"):
        parse_experiment({"models": {"lstm": {}}, "data": {}})
    with pytest.raises(ConfigError, match=r"models = {} holds 0 values, fewer than 1"):
        parse_experiment({"models": {}, "data": {"folder": "x"}})


def test_qlibs_return_earns_for_one_bar():
    assert changed("label.kind=qlib").label.reach == 2
    with pytest.raises(ConfigError, match=r'label.horizon = 5 must be 1 with label.kind = "qlib"'):
        changed("label.kind=qlib", "label.horizon=5")
    with pytest.raises(ConfigError, match="takes 2 bars after its own"):
        changed("label.kind=qlib", "split.test_bars=2")


def test_dates_of_toml_and_texts_mean_the_same():
    one = changed("data.start=2024-01-01", "data.end=2024-06-30T12:00:00")
    other = changed("data.start='2024-01-01'", "data.end='2024-06-30T12:00:00'")
    assert one == other
    with pytest.raises(ConfigError, match=r"data.start = 2024-01-02 comes after data.end"):
        changed("data.start=2024-01-02", "data.end=2024-01-01")


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("models.lstm.hidden_size=64", 64),
        ("models.lstm.hidden_size = 1e-3", 1e-3),
        ("models.lstm.hidden_size=[1, 2]", [1, 2]),
        ('models.lstm.hidden_size="64"', "64"),
        ("models.lstm.hidden_size=data/vn30", "data/vn30"),
        ("models.lstm.hidden_size=a=b", "a=b"),
        ("models.lstm.hidden_size=true", True),
    ],
)
def test_an_override_takes_tomls_values_and_bare_texts(override, value):
    values = with_overrides(SMALL, [override])
    assert values["models"]["lstm"]["hidden_size"] == value
    assert SMALL == {"data": {"folder": "data"}, "models": {"lstm": {}}}


def test_a_later_override_wins_and_leaves_its_neighbours():
    values = with_overrides(SMALL, ["models.lstm.a=1", "models.lstm.b=2", "models.lstm.a=3"])
    assert values["models"]["lstm"] == {"a": 3, "b": 2}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seeds", "is no override: write section.key=value"),
        ("=3", "is no override: write section.key=value"),
        ("label.horizon=", "is no override: write section.key=value"),
        ("a b=3", "'a b' is no key"),
        ("seeds=[1", "The value of 'seeds=[1' is no TOML"),
        ("data.folder.x=1", "folder is 'data', which holds no keys"),
    ],
)
def test_an_override_that_is_none_is_refused(override, message):
    with pytest.raises(ConfigError) as caught:
        with_overrides(SMALL, [override])
    assert message in str(caught.value)


def test_a_file_that_cannot_be_read_is_refused_in_one_line(tmp_path):
    with pytest.raises(ConfigError, match=r"There is no experiment .*none.toml: write one with"):
        load_experiment(tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_experiment(tmp_path)
    path = tmp_path / "x.toml"
    path.write_text("[data\n")
    with pytest.raises(ConfigError, match=r"x.toml is no valid TOML: .*line 1") as caught:
        load_experiment(path)
    assert "\n" not in str(caught.value)


def test_a_value_cannot_be_changed_later():
    with pytest.raises(ValueError, match="frozen"):
        changed().label.horizon = 3


def test_the_data_section_sets_the_limits_of_the_checks():
    assert check_limits(changed().data) == CheckLimits()
    limits = check_limits(changed("data.price_limit=0.07", "data.stale_bars=3").data)
    assert limits == CheckLimits(price_limit=0.07, stale_bars=3)


def test_the_split_section_makes_the_folds():
    calendar = pd.date_range("2024-01-01", periods=100, freq="D", tz="UTC").as_unit("ms")
    split = changed("split.folds=2", "split.test_bars=10", "split.embargo=1").split
    first, second = make_folds(split, calendar)
    assert (first.test.first, second.test.last) == (calendar[80], calendar[-1])
    assert first.valid_known_before == calendar[79]
    dates = ("split.train=[2024-01-01,2024-01-31]", "split.test=[2024-02-01,2024-02-10]")
    (fold,) = make_folds(changed("split.kind=dates", *dates).split, calendar)
    assert fold.test.last == calendar[40]


def frames():
    dates = pd.date_range("2024-01-01", periods=80, freq="D", tz="UTC").as_unit("ms")
    rng = np.random.default_rng(0)
    return {
        symbol: pd.DataFrame({"date": dates, "close": np.exp(rng.normal(0, 0.02, 80).cumsum())})
        for symbol in "abc"
    }


@pytest.mark.parametrize("kind", ["return", "volatility_scaled", "qlib"])
def test_the_label_section_labels_all_symbols(kind):
    labels = make_labels(changed(f"label.kind={kind}").label, frames())
    assert list(labels) == ["a", "b", "c"]
    assert labels["a"]["label"].notna().sum() > 30


def test_labels_are_compared_and_clipped_where_asked():
    label = changed("label.cross_section=zscore", "label.clip=0.5").label
    table = make_labels(label, frames())
    values = np.stack([table[symbol]["label"][:79] for symbol in "abc"])
    assert np.abs(values).max() == 0.5
    ranks = make_labels(changed("label.cross_section=rank").label, frames())
    total = sum(ranks[symbol]["label"][:79] for symbol in "abc")
    np.testing.assert_allclose(total, 0, atol=1e-12)


def test_a_column_of_the_files_serves_as_label():
    label = changed("label.kind=column", "label.column=&-up", "label.horizon=2").label
    tables = {symbol: frame.assign(**{"&-up": 1.5}) for symbol, frame in frames().items()}
    made = make_labels(label, tables)["a"]
    assert made["label"][0] == 1.5
    assert made["known_at"][0] == tables["a"]["date"][2]
    misspelt = changed("label.kind=column", "label.column=&-pu").label
    with pytest.raises(DataError, match=r"names '&-pu', which the files do not hold.*'&-up'"):
        make_labels(misspelt, tables)


def test_a_column_is_known_by_candles_of_the_symbol_and_not_by_rows_of_the_calendar():
    label = changed("label.kind=column", "label.column=&-up", "label.horizon=2").label
    frame = frames()["a"].head(8).assign(**{"&-up": np.arange(8.0)})
    # Whoever made the column knew no candle of these days: two after row 2 is row 6.
    frame.loc[[3, 4], ["close", "&-up"]] = np.nan
    made = make_labels(label, {"a": frame})["a"]
    later = [2, 5, 6, None, None, 7, None, None]
    known = [pd.NaT if row is None else frame["date"][row] for row in later]
    assert made["known_at"].tolist() == known
    assert made["label"].dropna().tolist() == [0.0, 1.0, 2.0, 5.0]


def test_nothing_of_research_imports_torch_or_a_host():
    code = (
        "import sys\n"
        "import freqai_lstm_plugins.research.experiment\n"
        "import freqai_lstm_plugins.features.indicators\n"
        "print(sorted({'torch', 'freqtrade', 'qlib', 'sklearn'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_without_pydantic_the_extra_is_named():
    code = (
        "import sys\n"
        "sys.modules['pydantic'] = None\n"
        "from freqai_lstm_plugins.errors import MissingExtraError\n"
        "try:\n"
        "    import freqai_lstm_plugins.research.experiment\n"
        "except MissingExtraError as error:\n"
        "    print(error)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert "freqai_lstm_plugins[research]" in result.stdout


def test_what_is_resolved_states_every_default():
    values = resolved(changed())
    assert values["label"]["horizon"] == 1
    assert values["models"]["lstm"] == {"kind": "lstm", "scope": "symbol", "symbol_embedding": 0}
    assert "clip" not in values["label"]
