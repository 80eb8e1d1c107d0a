"""Evaluation of codecs, full-duplex models and turn-based models, with word error rates by an independent recogniser.

Functions import the packages of the extra `eval` (pocketsphinx, pystoi, jiwer) when they are called.
"""
