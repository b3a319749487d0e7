from __future__ import annotations

import os
import threading
import time

import pytest
import torch

from freqai_lstm_plugins.nets import build_net, net_class
from freqai_lstm_plugins.nets.cpu.threads import in_threads
from freqai_lstm_plugins.training.devices import torch_threads
from freqai_lstm_plugins.training.prediction import predict_windows


def test_results_come_in_the_order_of_the_parts_whatever_the_threads():
    for n_threads in (1, 2, 3, 7):
        with torch_threads(n_threads):
            assert in_threads(lambda part: part * 10, range(5)) == [0, 10, 20, 30, 40]
    assert in_threads(lambda part: part, []) == []


def test_parts_run_beside_each_other_with_one_core_each():
    both = threading.Barrier(2, timeout=120)
    seen = set()

    def work(part):
        both.wait()
        seen.add((threading.get_ident(), torch.get_num_threads(), torch.is_grad_enabled()))

    with torch_threads(2):
        in_threads(work, [0, 1])
        assert torch.get_num_threads() == 2
    assert len({ident for ident, *_ in seen}) == 2
    assert {tuple(rest) for _, *rest in seen} == {(1, False)}


def test_inference_mode_reaches_the_other_threads():
    with torch_threads(2), torch.inference_mode():
        assert in_threads(lambda part: torch.ones(1).is_inference(), [0, 1]) == [True, True]
    with torch_threads(2):
        assert in_threads(lambda part: torch.ones(1).is_inference(), [0, 1]) == [False, False]


@pytest.mark.parametrize("bad", [0, 1])
def test_an_error_in_any_part_reaches_the_caller_and_leaves_the_threads_as_they_were(bad):
    def work(part):
        if part == bad:
            raise ValueError(f"part {part}")

    with torch_threads(2):
        with pytest.raises(ValueError, match=f"part {bad}"):
            in_threads(work, [0, 1])
        assert torch.get_num_threads() == 2
        assert in_threads(lambda part: part, [0, 1]) == [0, 1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_makes_threads_of_its_own():
    with torch_threads(2):
        in_threads(lambda part: part, [0, 1])
        child = os.fork()
        if not child:
            # The parent's threads do not exist here, so waiting for them would never end.
            os._exit(0 if in_threads(lambda part: part, [0, 1]) == [0, 1] else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("name", ["lstm", "alstm"])
def test_predictions_are_the_same_in_one_thread_and_in_two(name):
    net = build_net(name, 3, 1, net_class(name).config(hidden_size=8)).eval()
    rows = torch.randn(1500, 3, generator=torch.Generator().manual_seed(1))
    ends = torch.arange(3, 1500)
    with torch_threads(1):
        one = predict_windows(net, rows, ends, 4)
    with torch_threads(2):
        two = predict_windows(net, rows, ends, 4)
    torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-6)


def test_everybody_has_finished_when_one_fails():
    """Catches a caller that goes on beside threads which still use what is its own."""
    ended = []

    def work(part):
        try:
            if part == 1:
                raise ValueError("part 1")
            if part == 2:
                time.sleep(0.5)
        finally:
            ended.append(part)

    with torch_threads(3):
        with pytest.raises(ValueError, match="part 1"):
            in_threads(work, [0, 1, 2])
        assert sorted(ended) == [0, 1, 2]
        assert torch.get_num_threads() == 3
