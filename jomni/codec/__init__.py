"""Audio codecs: waveform to codes and back. Functions of the module `snac` are SNAC's, those named here are Mimi's."""

from jomni.codec.config import MIMI, MimiConfig
from jomni.codec.mimi import Mimi, decode, decode_step, encode, encode_step
from jomni.codec.quantizer import fold_codebooks
from jomni.codec.snac import Snac
from jomni.codec.snac_config import SNAC_24KHZ, SNAC_32KHZ, SNAC_44KHZ, SnacConfig
from jomni.nn.centred import fold_weight_norm

__all__ = [
    "MIMI", "SNAC_24KHZ", "SNAC_32KHZ", "SNAC_44KHZ", "Mimi", "MimiConfig", "Snac", "SnacConfig", "decode",
    "decode_step", "encode", "encode_step", "fold_codebooks", "fold_weight_norm",
]  # fmt: skip
