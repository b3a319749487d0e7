"""One net for all pairs in a backtest: trained once a slice, and found by all pairs."""

from __future__ import annotations

import pytest

from tests.freqai.panel.walk import PAIRS, backtest_pairs, make_market


@pytest.fixture(scope="module")
def market():
    return make_market()


@pytest.fixture(scope="module")
def first(market, tmp_path_factory):
    folder = tmp_path_factory.mktemp("first")
    predicted, model = backtest_pairs(folder, market)
    return folder, predicted, model


def test_every_pair_is_predicted_by_one_net_a_slice(first):
    folder, predicted, _ = first
    for pair in PAIRS:
        assert predicted[pair]["do_predict"].iloc[2 * 96 :].all()
    nets = sorted(folder.glob("models/test/sub-train-*/*_model.zip"))
    assert len(nets) == 2
