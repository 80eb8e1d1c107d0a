"""Evaluation of full-duplex models in simulated conversations."""
