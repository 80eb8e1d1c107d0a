"""jomni: end-to-end speech dialogue in JAX.

The public names, imported when first used, so that `import jomni` and the command line's help stay quick.
"""

from typing import TYPE_CHECKING

from jomni.lazy import lazily

__version__ = "0.1.0"

_HOME = {
    "MIMI": "jomni.codec",
    "SNAC_24KHZ": "jomni.codec",
    "SNAC_32KHZ": "jomni.codec",
    "SNAC_44KHZ": "jomni.codec",
    "Snac": "jomni.codec",
    "SnacConfig": "jomni.codec",
    "fold_weight_norm": "jomni.codec",
    "Mimi": "jomni.codec",
    "MimiConfig": "jomni.codec",
    "encode": "jomni.codec",
    "decode": "jomni.codec",
    "encode_step": "jomni.codec",
    "decode_step": "jomni.codec",
    "fold_codebooks": "jomni.codec",
    "MOSHI_7B": "jomni.models.moshi",
    "MoshiConfig": "jomni.models.moshi",
    "MoshiLM": "jomni.models.moshi",
    "prepare_conditions": "jomni.models.moshi",
    "WHISPER": "jomni.models.whisper",
    "WhisperConfig": "jomni.models.whisper",
    "WhisperEncoder": "jomni.models.whisper",
    "embed_audio": "jomni.models.whisper",
    "log_mel": "jomni.models.whisper",
    "Decoder": "jomni.models.decoder",
    "DecoderConfig": "jomni.models.decoder",
    "Chat": "jomni.generate",
    "FREE": "jomni.generate",
    "Controls": "jomni.generate",
    "Duplex": "jomni.generate",
    "Generator": "jomni.generate",
    "Guidance": "jomni.generate",
    "OmniChat": "jomni.generate",
    "OmniParts": "jomni.generate",
    "converse": "jomni.generate",
    "transcribe": "jomni.generate",
    "plot_conversation": "jomni.plot",
    "Checkpoint": "jomni.weights",
    "load": "jomni.weights",
    "save": "jomni.weights",
    "JomniError": "jomni.errors",
    "reset": "jomni.nn",
}

__all__ = sorted(_HOME)

if TYPE_CHECKING:
    from jomni.codec import (
        MIMI,
        SNAC_24KHZ,
        SNAC_32KHZ,
        SNAC_44KHZ,
        Mimi,
        MimiConfig,
        Snac,
        SnacConfig,
        decode,
        decode_step,
        encode,
        encode_step,
        fold_codebooks,
        fold_weight_norm,
    )  # fmt: skip
    from jomni.errors import JomniError
    from jomni.generate import (
        FREE,
        Chat,
        Controls,
        Duplex,
        Generator,
        Guidance,
        OmniChat,
        OmniParts,
        converse,
        transcribe,
    )
    from jomni.models.decoder import Decoder, DecoderConfig
    from jomni.models.moshi import MOSHI_7B, MoshiConfig, MoshiLM, prepare_conditions
    from jomni.models.whisper import WHISPER, WhisperConfig, WhisperEncoder, embed_audio, log_mel
    from jomni.nn import reset
    from jomni.plot import plot_conversation
    from jomni.weights import Checkpoint, load, save

__getattr__, __dir__ = lazily(__name__, _HOME)
