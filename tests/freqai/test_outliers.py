from __future__ import annotations

import numpy as np
import pytest
from datasieve.transforms import DBSCAN

from freqai_lstm_plugins.freqai.outliers import RowwiseDBSCAN


@pytest.mark.parametrize("seed", range(3))
def test_the_verdict_is_the_hosts_for_a_row_that_comes_alone(seed):
    rng = np.random.default_rng(seed)
    trained = rng.normal(size=(120, 2))
    new = rng.normal(size=(60, 2)) * 2.5
    host = DBSCAN(n_jobs=1, backend="threading")
    host.fit(trained)
    expected = []
    for row in new:
        _, verdict, _, _ = host.transform(row[None], np.ones(1), outlier_check=True)
        expected.append(int(verdict[0]))
    ours = RowwiseDBSCAN.taking_over(DBSCAN(n_jobs=1, backend="threading"))
    ours.fit(trained)
    _, verdict, _, _ = ours.transform(new, np.ones(60), outlier_check=True)
    assert verdict.astype(int).tolist() == expected
    assert 0 < sum(expected) < 60
    kept, marks, weights, _ = ours.transform(new, new[:, 0], np.ones(60))
    assert len(kept) == len(marks) == len(weights) == sum(expected)
