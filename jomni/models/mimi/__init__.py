"""Mimi, Kyutai's streaming codec."""

from jomni.models.mimi.config import MIMI, MimiConfig
from jomni.models.mimi.model import Mimi, decode, decode_step, encode, encode_step
from jomni.models.mimi.quantizer import fold_codebooks

__all__ = ["MIMI", "Mimi", "MimiConfig", "decode", "decode_step", "encode", "encode_step", "fold_codebooks"]
