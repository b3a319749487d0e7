from __future__ import annotations

import logging
from collections import deque

import pytest

from freqai_lstm_plugins.errors import DataError
from freqai_lstm_plugins.freqai.retries import LONGEST_PAUSE, Retries, next_pair

PAIRS = ("A/USDT", "B/USDT", "C/USDT")


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


def fail(message="broken"):
    try:
        raise RuntimeError(message)
    except RuntimeError as error:
        return error


def pauses(retries, clock, count, pair="A/USDT"):
    found = []
    for _ in range(count):
        retries.failed(pair, fail())
        began = clock.now
        while retries.rests(pair):
            clock.now += 1
        found.append(clock.now - began)
    return found


def test_each_failure_doubles_the_pause_up_to_a_quarter_of_an_hour(clock):
    assert pauses(Retries(clock), clock, 9) == [10, 20, 40, 80, 160, 320, 640, 900, 900]
    assert LONGEST_PAUSE == 900


def test_a_training_that_went_well_begins_the_pauses_anew(clock):
    retries = Retries(clock)
    pauses(retries, clock, 3)
    retries.succeeded("A/USDT")
    assert not retries.rests("A/USDT")
    assert pauses(retries, clock, 1) == [10]


def test_pauses_do_not_depend_on_what_else_waits(clock):
    retries = Retries(clock)
    for pair in PAIRS:
        retries.failed(pair, fail())
    assert all(retries.rests(pair) for pair in PAIRS)


def test_a_traceback_is_logged_once_and_then_one_line(clock, caplog):
    retries = Retries(clock)
    for _ in range(3):
        retries.failed("A/USDT", fail())
    assert caplog.text.count("Traceback") == 1
    assert caplog.text.count("Training A/USDT raised exception RuntimeError") == 3
    assert "(3 in a row). Message: broken Trying again in 40 s." in caplog.messages[-1]
    # Another error is news.
    try:
        {}["key"]
    except KeyError as error:
        retries.failed("A/USDT", error)
    assert caplog.text.count("Traceback") == 2


def test_our_own_errors_need_no_traceback(clock, caplog):
    try:
        raise DataError("No window.")
    except DataError as error:
        Retries(clock).failed("A/USDT", error)
    assert "Traceback" not in caplog.text
    assert caplog.records[0].levelno == logging.ERROR


def test_the_first_pair_that_needs_training_and_does_not_rest_is_next(clock):
    retries, queue = Retries(clock), deque(PAIRS)
    fresh = {"B/USDT"}
    assert next_pair(queue, PAIRS, lambda pair: pair not in fresh, retries) == "A/USDT"
    retries.failed("A/USDT", fail())
    # Neither a pair that rests nor one with a fresh model keeps those behind it waiting.
    assert next_pair(queue, PAIRS, lambda pair: pair not in fresh, retries) == "C/USDT"
    assert next_pair(queue, PAIRS, lambda pair: pair == "A/USDT", retries) is None
    clock.now += 10
    assert next_pair(queue, PAIRS, lambda pair: pair not in fresh, retries) == "A/USDT"


def test_a_pair_that_left_the_whitelist_leaves_the_queue(clock, caplog):
    queue = deque(PAIRS)
    assert next_pair(queue, PAIRS[1:], lambda pair: True, Retries(clock)) == "B/USDT"
    assert list(queue) == ["B/USDT", "C/USDT"]
    assert "A/USDT not in current whitelist" in caplog.text
