"""Evaluation of turn-based models on spoken and written questions."""
