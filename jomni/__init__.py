"""jomni: end-to-end speech dialogue in JAX.

The public names, imported when first used, so that `import jomni` and the command line's help stay quick.
"""

from typing import TYPE_CHECKING

from jomni.lazy import lazily

__version__ = "0.1.0"

_HOME = {
    "Checkpoint": "jomni.checkpoints.checkpoint",
    "load": "jomni.checkpoints.load",
    "default_dtype": "jomni.checkpoints.pretrained",
    "from_pretrained": "jomni.checkpoints.pretrained",
    "save": "jomni.checkpoints.save",
    "JomniError": "jomni.errors",
    "Controls": "jomni.generation.controls",
    "UNFORCED": "jomni.generation.controls",
    "Codec": "jomni.models.codec",
    "decode": "jomni.models.codec",
    "decode_step": "jomni.models.codec",
    "encode": "jomni.models.codec",
    "encode_step": "jomni.models.codec",
    "Decoder": "jomni.models.decoder",
    "DecoderConfig": "jomni.models.decoder",
    "Chat": "jomni.models.decoder.chat",
    "TextGenerator": "jomni.models.decoder.generate",
    "MIMI": "jomni.models.mimi",
    "Mimi": "jomni.models.mimi",
    "MimiConfig": "jomni.models.mimi",
    "fold_codebooks": "jomni.models.mimi",
    "MimiCodec": "jomni.models.mimi.codec",
    "MiniOmni": "jomni.models.mini_omni",
    "MiniOmniConfig": "jomni.models.mini_omni",
    "OmniChat": "jomni.models.mini_omni.chat",
    "OmniParts": "jomni.models.mini_omni.chat",
    "OmniGenerator": "jomni.models.mini_omni.generate",
    "OmniModel": "jomni.models.mini_omni.system",
    "MOSHI_7B": "jomni.models.moshi",
    "MoshiConfig": "jomni.models.moshi",
    "MoshiLM": "jomni.models.moshi",
    "prepare_conditions": "jomni.models.moshi",
    "converse": "jomni.models.moshi.conversation",
    "Duplex": "jomni.models.moshi.duplex",
    "Generator": "jomni.models.moshi.generate",
    "Guidance": "jomni.models.moshi.generate",
    "transcribe": "jomni.models.moshi.conversation",
    "SNAC_24KHZ": "jomni.models.snac",
    "SNAC_32KHZ": "jomni.models.snac",
    "SNAC_44KHZ": "jomni.models.snac",
    "Snac": "jomni.models.snac",
    "SnacConfig": "jomni.models.snac",
    "SnacCodec": "jomni.models.snac.codec",
    "WHISPER": "jomni.models.whisper",
    "WhisperConfig": "jomni.models.whisper",
    "WhisperEncoder": "jomni.models.whisper",
    "embed_audio": "jomni.models.whisper",
    "log_mel": "jomni.models.whisper",
    "SpeechEncoder": "jomni.models.whisper.speech_encoder",
    "reset": "jomni.nn",
    "fold_weight_norm": "jomni.nn.lookahead",
    "plot_conversation": "jomni.plot",
}

__all__ = sorted(_HOME)

if TYPE_CHECKING:
    from jomni.checkpoints.checkpoint import Checkpoint
    from jomni.checkpoints.load import load
    from jomni.checkpoints.pretrained import default_dtype, from_pretrained
    from jomni.checkpoints.save import save
    from jomni.errors import JomniError
    from jomni.generation.controls import UNFORCED, Controls
    from jomni.models.codec import Codec, decode, decode_step, encode, encode_step
    from jomni.models.decoder import Decoder, DecoderConfig
    from jomni.models.decoder.chat import Chat
    from jomni.models.decoder.generate import TextGenerator
    from jomni.models.mimi import MIMI, Mimi, MimiConfig, fold_codebooks
    from jomni.models.mimi.codec import MimiCodec
    from jomni.models.mini_omni import MiniOmni, MiniOmniConfig
    from jomni.models.mini_omni.chat import OmniChat, OmniParts
    from jomni.models.mini_omni.generate import OmniGenerator
    from jomni.models.mini_omni.system import OmniModel
    from jomni.models.moshi import MOSHI_7B, MoshiConfig, MoshiLM, prepare_conditions
    from jomni.models.moshi.conversation import converse, transcribe
    from jomni.models.moshi.duplex import Duplex
    from jomni.models.moshi.generate import Generator, Guidance
    from jomni.models.snac import SNAC_24KHZ, SNAC_32KHZ, SNAC_44KHZ, Snac, SnacConfig
    from jomni.models.snac.codec import SnacCodec
    from jomni.models.whisper import WHISPER, WhisperConfig, WhisperEncoder, embed_audio, log_mel
    from jomni.models.whisper.speech_encoder import SpeechEncoder
    from jomni.nn import reset
    from jomni.nn.lookahead import fold_weight_norm
    from jomni.plot import plot_conversation

__getattr__, __dir__ = lazily(__name__, _HOME)
