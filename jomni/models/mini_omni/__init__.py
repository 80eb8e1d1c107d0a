"""Mini-Omni: a text decoder that hears Whisper's features and speaks SNAC's codes beside its text."""

from jomni.models.mini_omni.config import MiniOmniConfig, Vocabulary
from jomni.models.mini_omni.model import MiniOmni, MiniOmniState, place_features
from jomni.models.mini_omni.surgery import give_voice, set_apart

__all__ = ["MiniOmni", "MiniOmniConfig", "MiniOmniState", "Vocabulary", "give_voice", "place_features", "set_apart"]
