"""Mini-Omni: a text decoder with Whisper's features as input and SNAC's codes, beside text, as output."""

from jomni.models.mini_omni.config import MiniOmniConfig, Vocabulary
from jomni.models.mini_omni.model import MiniOmni, MiniOmniState, place_features
from jomni.models.mini_omni.surgery import add_speech_parts, set_apart

__all__ = [
    "MiniOmni", "MiniOmniConfig", "MiniOmniState", "Vocabulary", "add_speech_parts", "place_features", "set_apart",
]  # fmt: skip
