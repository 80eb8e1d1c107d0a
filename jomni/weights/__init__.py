"""Checkpoints in and out: safe readers, weight maps, the hub, and layouts of Kyutai, SNAC, Hugging Face and Orbax."""

from jomni.weights.checkpoint import Checkpoint
from jomni.weights.load import load
from jomni.weights.save import save
from jomni.weights.trees import lm_tree, mimi_tree, snac_tree

__all__ = ["Checkpoint", "lm_tree", "load", "mimi_tree", "save", "snac_tree"]
