"""Text decoders of Hugging Face's families: Qwen 2 and 3, Llama 3, SmolLM 2, Gemma 2 and 3."""

from jomni.models.decoder.config import DecoderConfig, RopeConfig
from jomni.models.decoder.model import Decoder, DecoderState

__all__ = ["Decoder", "DecoderConfig", "DecoderState", "RopeConfig"]
