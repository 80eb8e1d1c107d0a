"""Conversations of two speakers for full-duplex models: alignment, tokenised codes, self-rollout and windows."""
