"""Metrics of turn-taking on synthetic timelines; shares and intervals."""

import math

import numpy as np
import pytest

from jomni.eval import intervals as statistics
from jomni.eval.full_duplex import metrics as duplex
from jomni.eval.full_duplex.metrics import SoundRule

RATE = 16_000


def tone(*intervals, seconds=10.0, level=0.1):
    wave = np.zeros(round(seconds * RATE), np.float32)
    time = np.arange(len(wave)) / RATE
    for start, end in intervals:
        wave[round(start * RATE) : round(end * RATE)] = level * 2**0.5
    return wave * np.sin(2 * np.pi * 400 * time).astype(np.float32)


def close(intervals):
    return [pytest.approx(interval) for interval in intervals]


def test_sounds_are_where_the_level_exceeds_the_threshold():
    assert duplex.sounds(tone((1.0, 2.0), (5.5, 6.25)), RATE) == close([(1.0, 2.0), (5.5, 6.25)])
    assert duplex.sounds(tone((1.0, 2.0), level=0.0101), RATE) == close([(1.0, 2.0)])
    assert duplex.sounds(tone((1.0, 2.0), level=0.0099), RATE) == []
    assert duplex.sounds(np.zeros(0, np.float32), RATE) == []


def test_short_silences_are_bridged_and_clicks_left_out():
    assert duplex.sounds(tone((1.0, 1.5), (1.59, 2.0), (2.1, 2.5)), RATE) == close([(1.0, 2.0), (2.1, 2.5)])
    assert duplex.sounds(tone((1.0, 1.02), (3.0, 3.03)), RATE) == close([(3.0, 3.03)])
    rule = SoundRule(gap=0.0, shortest=0.0)
    assert len(duplex.sounds(tone((1.0, 1.02), (1.04, 1.06)), RATE, rule)) == 2


def test_sound_may_reach_the_edges_and_end_within_a_window():
    assert duplex.sounds(tone((0.0, 0.205), seconds=0.205), RATE) == close([(0.0, 0.21)])


def test_latency_counts_from_the_end_of_the_users_speech():
    agent = [(3.24, 4.0), (6.0, 7.0)]
    assert duplex.latency(agent, 3.0, 5.0) == pytest.approx(0.24)
    assert duplex.latency(agent, 4.5, 5.5) is None  # it speaks only after the time that counts
    assert duplex.latency(agent, 3.5, 5.0) == 0.0  # it sounds already: Full-Duplex-Bench counts 0
    assert duplex.latency([], 3.0, 5.0) is None


def test_take_over_is_any_sound_and_a_turn_is_a_second_or_more_than_three_words():
    short, long_, split = [(1.0, 1.9)], [(1.0, 2.0)], [(1.0, 1.2), (1.9, 2.05)]
    assert duplex.takes_over(short, 0.5, 3) and not duplex.takes_over(short, 1.9, 3) and not duplex.takes_over([], 0, 9)
    assert not duplex.takes_turn(short, 0, 3, words=3) and duplex.takes_turn(short, 0, 3, words=4)
    assert duplex.takes_turn(long_, 0, 3, words=0)
    assert duplex.takes_turn(split, 0, 3, words=0)  # from first to last sound
    assert not duplex.takes_turn(long_, 1.5, 3, words=0)  # what came before does not count
    assert not duplex.takes_turn([], 0, 3, words=9)  # text alone is not heard


def test_speaking_over_needs_a_frame_of_overlap_in_all():
    user = [(1.0, 2.0), (2.8, 3.5)]
    assert not duplex.speaks_over([(2.0, 2.8), (3.5, 4.0)], user)
    assert not duplex.speaks_over([(1.93, 2.8)], user)
    assert duplex.speaks_over([(1.92, 2.8)], user)
    assert duplex.speaks_over([(1.95, 2.85)], user) and duplex.overlap([(1.95, 2.85)], user) == pytest.approx(0.1)


def test_waiting_lasts_to_the_end_of_the_question():
    assert duplex.waits([(0.2, 0.9), (4.3, 5.0)], 1.0, 4.2)
    assert not duplex.waits([(1.7, 1.9)], 1.0, 4.2)
    assert not duplex.waits([(2.0, 2.4)], 1.0, 4.2)  # decided in the pause, heard when the user talks on


def test_stop_time_is_to_the_end_of_the_interrupted_speech():
    agent = [(1.0, 2.0), (2.3, 3.0), (4.0, 5.0)]
    assert duplex.stop_time(agent, 2.5) == pytest.approx(0.5)
    assert duplex.stop_time(agent, 1.5) == pytest.approx(1.5)  # 0.3 s between words is no stop
    assert duplex.stop_time(agent, 2.1) == pytest.approx(0.9)
    assert duplex.stop_time(agent, 3.5) is None and not duplex.speaks_at(agent, 3.5)
    assert duplex.stop_time([], 1.0) is None


def test_a_quick_answer_to_the_interruption_is_not_interrupted_speech():
    agent = [(1.0, 2.0), (2.35, 3.5)]
    assert duplex.stop_time(agent, 1.6) == pytest.approx(1.9)
    assert duplex.stop_time(agent, 1.6, user_end=2.2) == pytest.approx(0.4)
    assert duplex.stop_time(agent, 1.6, user_end=2.4) == pytest.approx(1.9)  # the user was still talking
    assert duplex.stop_time([(1.0, 2.0), (2.15, 3.5)], 1.6, user_end=2.1) == pytest.approx(1.9)  # a pause between words
    assert duplex.stop_time([(1.0, 2.0), (2.3, 3.5)], 2.1, user_end=2.2) == 0  # fell silent just before


def test_continuing_through_a_backchannel():
    agent = [(1.0, 2.0), (2.3, 4.0)]
    assert duplex.continues(agent, 1.8, 2.1) and duplex.continues(agent, 3.0, 3.9)
    assert not duplex.continues(agent, 3.8, 4.2)
    assert not duplex.continues([(1.0, 2.0), (2.6, 4.0)], 1.8, 2.1)  # fell silent, and began anew
    assert not duplex.continues([], 1.8, 2.1)


def test_wilson_interval_against_published_values():
    # Newcombe 1998, table I: 81 of 263, and 0 of 20.
    hits = [True] * 81 + [False] * 182
    found = statistics.share(hits)
    assert (found.value, found.low, found.high) == pytest.approx((0.3080, 0.2553, 0.3662), abs=5e-5)
    none, all_ = statistics.share([False] * 20), statistics.share([True] * 20)
    assert (none.value, none.low, none.high) == pytest.approx((0, 0, 0.1611), abs=5e-5)
    assert all_.low == pytest.approx(1 - 0.1611, abs=5e-5) and all_.high == 1
    assert math.isnan(statistics.share([]).value)
    with pytest.raises(ValueError, match=r"2 groups .* 3 "):
        statistics.share([True] * 3, ["a", "b"])


def test_the_interval_of_a_share_allows_for_correlated_groups():
    rng = np.random.default_rng(0)
    hits = list(rng.random(300) < 0.3)
    alone = statistics.share(hits)
    apart = statistics.share(hits, range(300))
    again = statistics.share(hits * 3, [*range(300)] * 3)  # the same, three times over
    assert again.count == 900
    for other in (apart, again):
        assert (other.low, other.high) == pytest.approx((alone.low, alone.high), abs=5e-4)
    luck = statistics.share(list(rng.random(900) < 0.3), [*range(300)] * 3)  # groups that have nothing in common
    assert luck.high - luck.low == pytest.approx((alone.high - alone.low) / 3**0.5, rel=0.15)
    certain = statistics.share([True] * 60, [*range(20)] * 3)
    assert certain.low == pytest.approx(1 - 0.1611, abs=5e-5)


def test_a_quantiles_interval_is_not_narrowed_by_seeds():
    values = list(np.random.default_rng(0).exponential(1.0, 60))
    once, groups = statistics.quantile(values, 0.5), [*range(60)] * 3
    again, naive = statistics.quantile(values * 3, 0.5, groups), statistics.median(values * 3)
    assert once.value == again.value == naive.value == pytest.approx(np.median(values)) and again.count == 180
    assert again.high - again.low == pytest.approx(once.high - once.low, rel=0.25)
    assert naive.high - naive.low < 0.75 * (once.high - once.low)
    assert statistics.quantile([], 0.9) == statistics.NO_DATA


def test_bootstrap_is_repeatable_and_covers():
    values = np.random.default_rng(1).normal(3.0, 1.0, 400)
    found = statistics.mean(values)
    assert found == statistics.mean(values) and found.value == pytest.approx(values.mean())
    assert found.high - found.low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.15)
    assert statistics.median([1.0, 2.0, 9.0]).value == 2.0
    assert statistics.mean([]).count == 0


def test_pooled_rates_weigh_by_size_and_differences_are_paired():
    assert statistics.ratio([1, 0], [2, 8]).value == pytest.approx(0.1)
    errors, sizes = [5, 1, 3, 2] * 10, [10, 4, 9, 6] * 10
    same = statistics.ratio_difference(errors, sizes, errors)
    assert (same.value, same.low, same.high) == (0, 0, 0)  # unpaired resamples would differ
    assert statistics.ratio_difference(errors, sizes, [0] * 40).value == statistics.ratio(errors, sizes).value
    assert statistics.ratio([], []).count == 0 and statistics.ratio([1], [0]).count == 0
