"""jomni: end-to-end speech dialogue in JAX.

The public names, imported when first used, so that `import jomni` and the command line's help stay quick.
"""

from typing import TYPE_CHECKING

from jomni.lazy import lazily

__version__ = "0.1.0"

_HOME = {
    "MIMI": "jomni.models.mimi",
    "Mimi": "jomni.models.mimi",
    "MimiConfig": "jomni.models.mimi",
    "encode": "jomni.models.mimi",
    "decode": "jomni.models.mimi",
    "encode_step": "jomni.models.mimi",
    "decode_step": "jomni.models.mimi",
    "fold_codebooks": "jomni.models.mimi",
    "SNAC_24KHZ": "jomni.models.snac",
    "SNAC_32KHZ": "jomni.models.snac",
    "SNAC_44KHZ": "jomni.models.snac",
    "Snac": "jomni.models.snac",
    "SnacConfig": "jomni.models.snac",
    "fold_weight_norm": "jomni.nn.lookahead",
    "MOSHI_7B": "jomni.models.moshi",
    "MoshiConfig": "jomni.models.moshi",
    "MoshiLM": "jomni.models.moshi",
    "prepare_conditions": "jomni.models.moshi",
    "Duplex": "jomni.models.moshi.duplex",
    "Generator": "jomni.models.moshi.generate",
    "Guidance": "jomni.models.moshi.generate",
    "converse": "jomni.models.moshi.conversation",
    "transcribe": "jomni.models.moshi.transcript",
    "WHISPER": "jomni.models.whisper",
    "WhisperConfig": "jomni.models.whisper",
    "WhisperEncoder": "jomni.models.whisper",
    "embed_audio": "jomni.models.whisper",
    "log_mel": "jomni.models.whisper",
    "Decoder": "jomni.models.decoder",
    "DecoderConfig": "jomni.models.decoder",
    "Chat": "jomni.models.decoder.chat",
    "OmniChat": "jomni.models.mini_omni.chat",
    "OmniParts": "jomni.models.mini_omni.chat",
    "UNFORCED": "jomni.generation.controls",
    "Controls": "jomni.generation.controls",
    "Checkpoint": "jomni.checkpoints.checkpoint",
    "load": "jomni.checkpoints.load",
    "save": "jomni.checkpoints.save",
    "JomniError": "jomni.errors",
    "reset": "jomni.nn",
    "plot_conversation": "jomni.plot",
}

__all__ = sorted(_HOME)

if TYPE_CHECKING:
    from jomni.checkpoints.checkpoint import Checkpoint
    from jomni.checkpoints.load import load
    from jomni.checkpoints.save import save
    from jomni.errors import JomniError
    from jomni.generation.controls import UNFORCED, Controls
    from jomni.models.decoder import Decoder, DecoderConfig
    from jomni.models.decoder.chat import Chat
    from jomni.models.mimi import MIMI, Mimi, MimiConfig, decode, decode_step, encode, encode_step, fold_codebooks
    from jomni.models.mini_omni.chat import OmniChat, OmniParts
    from jomni.models.moshi import MOSHI_7B, MoshiConfig, MoshiLM, prepare_conditions
    from jomni.models.moshi.conversation import converse
    from jomni.models.moshi.duplex import Duplex
    from jomni.models.moshi.generate import Generator, Guidance
    from jomni.models.moshi.transcript import transcribe
    from jomni.models.snac import SNAC_24KHZ, SNAC_32KHZ, SNAC_44KHZ, Snac, SnacConfig
    from jomni.models.whisper import WHISPER, WhisperConfig, WhisperEncoder, embed_audio, log_mel
    from jomni.nn import reset
    from jomni.nn.lookahead import fold_weight_norm
    from jomni.plot import plot_conversation

__getattr__, __dir__ = lazily(__name__, _HOME)
