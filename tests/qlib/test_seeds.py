"""The example that compares both sides' nets with several seeds."""

import json

import numpy as np
import pandas as pd
import pytest

from tests.qlib.panels import MARKS, dataset_of, frame_of, load_example

pytestmark = MARKS


@pytest.fixture(scope="module")
def seeds():
    return load_example("seeds")


def test_each_day_has_an_ic_and_a_rank_ic(seeds):
    index = pd.MultiIndex.from_product(
        [["d1", "d2"], ["a", "b", "c"]], names=["datetime", "instrument"]
    )
    label = pd.Series([1.0, 2, 3, 1, 2, 3], index)
    predicted = pd.Series([1.0, 2, 9, 3, 2, 1], index)
    found = seeds.daily(predicted, label)
    assert found["Rank IC"].tolist() == pytest.approx([1, -1])
    assert found["IC"].tolist() == pytest.approx([np.corrcoef([1, 2, 9], [1, 2, 3])[0, 1], -1])


@pytest.mark.filterwarnings("ignore:.*constant:scipy.stats.ConstantInputWarning")
@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
def test_a_forecast_that_tells_no_stock_from_another_has_an_ic_of_zero(seeds):
    index = pd.MultiIndex.from_tuples(
        [("d1", "a"), ("d1", "b"), ("d2", "a"), ("d2", "b"), ("d3", "a")],
        names=["datetime", "instrument"],
    )
    predicted = pd.Series([4.0, 4, 1, 2, 7], index)
    found = seeds.daily(predicted, pd.Series([1.0, 2, 1, 2, 3], index))
    # One stock alone is in no order.
    assert found.index.tolist() == ["d1", "d2"]
    assert found["IC"].tolist() == found["Rank IC"].tolist() == pytest.approx([0, 1])


def test_an_interval_holds_what_days_and_seeds_scatter(seeds):
    random = np.random.default_rng(1)
    by_seed = random.normal(0.1, 1.0, (4, 400))
    found = seeds.intervals(by_seed, draws=400)
    value, low, high = found["mean"]
    assert value == pytest.approx(by_seed.mean())
    # Days of different seeds are independent here, so that 1,600 values tell.
    assert 0.5 < (high - low) / (2 * 1.96 / np.sqrt(1600)) < 2.5
    ratio = by_seed.mean(axis=1) / by_seed.std(axis=1, ddof=1)
    assert found["ratio"][0] == pytest.approx(ratio.mean())
    # Seeds that differ widen it, and what never varies has none.
    shifted = by_seed + np.array([[-1.0], [0], [0], [1]])
    wide = seeds.intervals(shifted, draws=400)["mean"]
    assert wide[2] - wide[1] > 2 * (high - low)
    # What moves both sides on the same days takes no part in their difference.
    both = random.normal(0, 5.0, 400)
    apart = seeds.intervals(by_seed + both, by_seed + both - 0.2, draws=400)["mean"]
    assert apart[0] == pytest.approx(0.2)
    assert apart[1] > 0


def test_the_table_judges_the_rows_that_ours_predict(seeds, tmp_path):
    label = frame_of()["label"]["LABEL0"]
    guess = label + np.random.default_rng(0).normal(size=len(label))
    is_known = np.arange(len(label)) >= 30
    for name in (*seeds.NETS, "LightGBM"):
        for side, unknown in ((seeds.OURS, np.nan), (seeds.THEIRS, 1e6)):
            place = tmp_path / f"{name}-{side[:4]}-0"
            guess.where(is_known, unknown).to_pickle(place.with_suffix(".pkl"))
            cost = {"seconds": 6.0, "bytes": 3 * 2**20, "rounds": 4}
            place.with_suffix(".json").write_text(json.dumps(cost))
    lines = seeds.table(tmp_path, label, 1)
    assert len(lines) == 2 + 8 + 1 + 2 + 4
    expected = seeds.daily(guess[is_known], label[is_known])["IC"].mean()
    assert lines[2].startswith(f"| LSTM | ours | {expected:.3f} (")
    assert lines[2].endswith("| 1.5 | 3 MiB |")
    assert lines[3] == lines[2].replace("ours", "qlib's")
    assert lines[8].startswith("| LightGBM | ours |")
    assert lines[8].endswith("| 6 | 3 MiB |")
    assert lines[-1] == "| LightGBM | 0.000 (0.000 to 0.000) | 0.000 (0.000 to 0.000) |"


@pytest.mark.parametrize("side", ["ours", "qlib's"])
def test_a_training_is_measured(seeds, side, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(seeds, "SHAPE", {**seeds.SHAPE, "hidden_size": 8, "batch_size": 20})
    dataset = dataset_of(frame_of(n_features=20), series=6)
    model = seeds.new_model("GRU", side, seed=1, epochs=2)
    if side == "ours":
        model.label_horizon = 0
    found = seeds.train(model, dataset)
    assert found.rounds == 2
    assert found.seconds > 0
    assert found.bytes >= 0


def test_a_page_without_markers_is_left_alone(seeds, tmp_path):
    page = tmp_path / "page.md"
    page.write_text("nothing")
    with pytest.raises(ValueError, match="lacks the lines"):
        seeds.write_page(page, ["| a |"])
    assert page.read_text() == "nothing"
    page.write_text(f"# Title\n{seeds.BEGIN}\nold\n{seeds.END}\nrest\n")
    seeds.write_page(page, ["| a |", "| b |"])
    assert page.read_text() == (f"# Title\n{seeds.BEGIN}\n\n| a |\n| b |\n\n{seeds.END}\nrest\n")
