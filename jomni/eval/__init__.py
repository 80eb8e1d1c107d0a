"""Evaluation: a codec's scorecard, duplex behaviour, answers, and word error rates by an independent recogniser.

What needs the extra `eval` (pocketsphinx, pystoi, jiwer) imports it when it is used; `missing` says by name what is not
installed.
"""
