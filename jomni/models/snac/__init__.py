"""SNAC, a codec with codebooks of several frame rates."""

from jomni.models.snac.config import SNAC_24KHZ, SNAC_32KHZ, SNAC_44KHZ, SnacConfig
from jomni.models.snac.model import Snac

__all__ = ["SNAC_24KHZ", "SNAC_32KHZ", "SNAC_44KHZ", "Snac", "SnacConfig"]
