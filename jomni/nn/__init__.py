"""Building blocks that keep the streaming contract (see `jomni.nn.streaming`)."""

from jomni.nn.config import TransformerConfig
from jomni.nn.streaming import reset

__all__ = ["TransformerConfig", "reset"]
