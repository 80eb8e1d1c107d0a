"""Checkpoints in and out: safe readers, weight maps, the hub, and the layouts of Kyutai, Hugging Face and Orbax."""

from jomni.weights.checkpoint import Checkpoint
from jomni.weights.load import load
from jomni.weights.save import save
from jomni.weights.trees import lm_tree, mimi_tree

__all__ = ["Checkpoint", "lm_tree", "load", "mimi_tree", "save"]
