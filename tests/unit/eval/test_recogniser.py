"""The recogniser, its language model, and word error rates."""

import itertools
import math

import numpy as np
import pytest
import soundfile

from jomni.errors import JomniError
from jomni.eval.full_duplex.replies import Reply, measure_replies
from jomni.eval.intervals import subsample
from jomni.eval.ngram import BEGIN, END, arpa
from jomni.eval.recogniser import Recogniser, normalise, read_pronunciations, word_errors
from tests.paths import GOLDENS
from tools.synth.__main__ import PRONUNCIATIONS, agent_sentences

SPOKEN = GOLDENS / "eval"
TEXTS = ["three plus four is seven", "after march comes april"]
MORE = ["what is three plus four", "before may comes april", "four plus seven is eleven", "five is bigger than four"]


def spoken():
    """Return two sentences spoken by flite's voice slt, 16 kHz."""
    return [soundfile.read(SPOKEN / f"{text.replace(' ', '_')}.flac", dtype="float32")[0] for text in TEXTS]


def read_arpa(text):
    """Return the probabilities and the back-off weights of an ARPA file by n-gram."""
    p, weights = {}, {}
    for line in text.splitlines():
        fields = line.split("\t")
        if len(fields) >= 2:
            gram = tuple(fields[1].split())
            p[gram] = 10 ** float(fields[0])
            weights[gram] = 10 ** float(fields[2]) if len(fields) > 2 else 1.0
    return p, weights


def probability(p, weights, history, word):
    if (*history, word) in p:
        return p[(*history, word)]
    return weights.get(history, 1.0) * probability(p, weights, history[1:], word)


@pytest.mark.parametrize("order", [1, 2, 3])
def test_probabilities_of_every_history_sum_to_one(order):
    rows = [text.split() for text in TEXTS + MORE]
    p, weights = read_arpa(arpa(rows, order))
    words = [*sorted({word for row in rows for word in row}), END]
    for history in itertools.islice(itertools.product([BEGIN, *words], repeat=order - 1), 400):
        total = sum(probability(p, weights, history, word) for word in words)
        assert total == pytest.approx(1, abs=1e-4), history


def test_a_bigram_by_hand():
    p, weights = read_arpa(arpa([["a", "b"], ["a", "c"]], 2))
    # After "a": 2 words, 2 kinds. Unigrams: 6 tokens (a a b c END END) of 4 kinds; uniform 1/4.
    b = (1 + 4 * 0.25) / (6 + 4)
    assert p[("b",)] == pytest.approx(b, rel=1e-5) and p[("a", "b")] == pytest.approx((1 + 2 * b) / (2 + 2), rel=1e-5)
    assert weights[("a",)] == pytest.approx(2 / 4, rel=1e-5)
    assert p[(BEGIN, "a")] == pytest.approx((2 + 1 * p[("a",)]) / (2 + 1), rel=1e-5)


@pytest.mark.parametrize(
    ("rows", "said"), [([], "words"), ([[]], "words"), ([["a b"]], "^'a b'"), ([["<s>"]], "^'<s>'"), ([[""]], "^''")]
)
def test_invalid_sentences_are_refused(rows, said):
    with pytest.raises(ValueError, match=said):
        arpa(rows)


def test_normalising_keeps_only_words():
    assert normalise("  Hello, Tom!  Don't -- say “Three.” ") == "hello tom don't say three"
    assert normalise("?!") == ""


def test_word_errors_by_hand():
    assert word_errors("One, two three.", "one two three").errors == 0
    found = word_errors("one two three four", "one too three four five")  # a substitution and an insertion
    assert (found.errors, found.words, found.rate) == (2, 4, 0.5)
    assert word_errors("one two", "").errors == 2
    assert (word_errors("", "one two").errors, word_errors("", "one").rate, word_errors("", "").rate) == (2, 1.0, 0.0)


def test_transcripts_do_not_depend_on_rate_order_and_processes():
    recogniser = Recogniser(TEXTS + MORE, processes=1)
    waves = spoken()
    found = recogniser.transcribe(waves, 16_000)
    assert found == TEXTS
    noise = 0.3 * np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    again = recogniser.transcribe([waves[1], noise, waves[0]], 16_000)
    assert again[::2] == found[::-1], "nothing is kept between recordings"
    counts = []
    assert Recogniser(TEXTS + MORE, processes=2).transcribe(waves, 16_000, counts.append) == found and counts == [1, 2]
    import soxr

    upsampled = [soxr.resample(wave, 16_000, 24_000).astype(np.float32) for wave in waves]
    assert recogniser.transcribe(upsampled, 24_000) == TEXTS
    assert recogniser.transcribe([np.zeros(0, np.float32)], 24_000) == [""]


def test_words_without_pronunciation_are_named_or_given():
    with pytest.raises(JomniError, match=r"'12', 'flurb'"):
        Recogniser(["flurb is 12", "hello"])
    given = Recogniser(["flurb is here"], pronunciations={"flurb": ["F L ER B"]})
    given.transcribe([np.zeros(8000, np.float32)], 16_000)
    Recogniser(["cat is spelled c a t"])
    with pytest.raises(JomniError, match="--sentences"):
        Recogniser([" ... "])


def test_pronunciations_are_read_in_the_format_of_the_cmu_dictionary(tmp_path):
    file = tmp_path / "words.dict"
    file.write_text("flurb F L ER B\n\nFlurb(2) F L UH B\nzonk Z AA NG K\n")
    assert read_pronunciations(file) == {"flurb": ["F L ER B", "F L UH B"], "zonk": ["Z AA NG K"]}
    Recogniser(["flurb zonk"], pronunciations=read_pronunciations(file)).transcribe([np.zeros(800, np.float32)], 16_000)
    file.write_text("flurb F L ER B\nzonk\n")
    with pytest.raises(JomniError, match=r"words\.dict, line 2: 'zonk'"):
        read_pronunciations(file)
    with pytest.raises(JomniError, match=r"nowhere\.dict"):
        read_pronunciations(tmp_path / "nowhere.dict")


def test_every_word_of_the_synthetic_corpus_has_a_pronunciation():
    Recogniser(agent_sentences(), pronunciations=read_pronunciations(PRONUNCIATIONS))


def test_replies_are_compared_with_the_synthesiser_and_noise():
    waves = spoken()
    recogniser = Recogniser(TEXTS + MORE, processes=1)
    replies = [
        Reply(TEXTS[0], waves[0], waves[0]), Reply(TEXTS[1], waves[0], waves[1]),  # the second says something else
        Reply("four plus seven is eleven", waves[1], None), Reply("", waves[0], None, "", TEXTS[0]),
    ]  # fmt: skip
    found = measure_replies(replies, 16_000, recogniser)
    assert found.synthesiser.value == 0 and found.model.count == 2
    assert found.model.value == found.above.value > 0.3
    assert found.noise.value > 0.6 and found.all_replies.count == 3
    assert found.expected.value == 0 and found.expected.count == 1  # without text, but right
    asked = []

    def synthesise(text):
        asked.append(text)
        return waves[1], 16_000

    assert measure_replies(replies, 16_000, recogniser, synthesise).model.count == 3
    assert asked == ["four plus seven is eleven"]
    assert math.isnan(measure_replies([], 16_000, recogniser).model.value)


def test_subsamples_are_reproducible_and_keep_the_order():
    numbers = list(range(100))
    ten = subsample(numbers, 10)
    assert ten == subsample(numbers, 10) == sorted(ten) and len(set(ten)) == 10 and ten != numbers[:10]
    assert subsample(numbers, None) == subsample(numbers, 999) == numbers and subsample(numbers, 0) == []
