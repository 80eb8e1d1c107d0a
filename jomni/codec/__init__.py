"""Audio codecs: waveform to codes and back."""

from jomni.codec.config import MIMI, MimiConfig
from jomni.codec.mimi import Mimi, decode, decode_step, encode, encode_step
from jomni.codec.quantizer import fold_codebooks

__all__ = ["MIMI", "Mimi", "MimiConfig", "decode", "decode_step", "encode", "encode_step", "fold_codebooks"]
