from .checkpoints.checkpoint import Checkpoint
from .checkpoints.load import load
from .checkpoints.pretrained import default_dtype, from_pretrained
from .checkpoints.save import save
from .errors import JomniError
from .generation.controls import UNFORCED, Controls
from .models.codec import Codec, decode, decode_step, encode, encode_step
from .models.decoder import Decoder, DecoderConfig
from .models.decoder.chat import Chat
from .models.decoder.generate import TextGenerator
from .models.mimi import MIMI, Mimi, MimiConfig, fold_codebooks
from .models.mimi.codec import MimiCodec
from .models.mini_omni import MiniOmni, MiniOmniConfig
from .models.mini_omni.chat import OmniChat, OmniParts
from .models.mini_omni.generate import OmniGenerator
from .models.mini_omni.system import OmniModel
from .models.moshi import MOSHI_7B, MoshiConfig, MoshiLM, prepare_conditions
from .models.moshi.conversation import converse, transcribe
from .models.moshi.duplex import Duplex
from .models.moshi.generate import Generator, Guidance
from .models.snac import SNAC_24KHZ, SNAC_32KHZ, SNAC_44KHZ, Snac, SnacConfig
from .models.snac.codec import SnacCodec
from .models.whisper import WHISPER, WhisperConfig, WhisperEncoder, embed_audio, log_mel
from .models.whisper.speech_encoder import SpeechEncoder
from .nn import reset
from .nn.lookahead import fold_weight_norm
from .plot import plot_conversation

__version__: str
__all__ = [
    "MIMI", "MOSHI_7B", "SNAC_24KHZ", "SNAC_32KHZ", "SNAC_44KHZ", "UNFORCED", "WHISPER", "Chat", "Checkpoint",
    "Codec", "Controls", "Decoder", "DecoderConfig", "Duplex", "Generator", "Guidance", "JomniError", "Mimi",
    "MimiCodec", "MimiConfig", "MiniOmni", "MiniOmniConfig", "MoshiConfig", "MoshiLM", "OmniChat", "OmniGenerator",
    "OmniModel", "OmniParts", "Snac", "SnacCodec", "SnacConfig", "SpeechEncoder", "TextGenerator", "WhisperConfig",
    "WhisperEncoder", "converse", "decode", "decode_step", "default_dtype", "embed_audio", "encode", "encode_step",
    "fold_codebooks", "fold_weight_norm", "from_pretrained", "load", "log_mel", "plot_conversation",
    "prepare_conditions", "reset", "save", "transcribe",
]  # fmt: skip
