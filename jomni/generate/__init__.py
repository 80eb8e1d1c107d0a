"""All that happens inside one jitted step: delays, sampling, steering, guidance, slots."""

from jomni.generate.chat import Chat
from jomni.generate.controls import FREE, Controls
from jomni.generate.conversation import Frame, converse, silent_tokens
from jomni.generate.duplex import Duplex, DuplexOutput, DuplexState
from jomni.generate.generator import Generator, GeneratorOutput, GeneratorState, Guidance, SamplingDefaults
from jomni.generate.omni import VOICES, OmniControls, OmniGenerator, OmniState
from jomni.generate.omni_chat import OmniChat, OmniParts, OmniPiece
from jomni.generate.omni_session import OmniSession
from jomni.generate.omni_voice import OmniVoice
from jomni.generate.text import TextControls, TextGenerator, TextSampling, TextSession, TextState
from jomni.generate.tokenizer import TextStream, TextTokenizer
from jomni.generate.transcript import Transcript, heard, text_pieces, transcribe

__all__ = [
    "FREE", "VOICES", "Chat", "Controls", "Duplex", "DuplexOutput", "DuplexState", "Frame", "Generator",
    "GeneratorOutput", "GeneratorState", "Guidance", "OmniChat", "OmniControls", "OmniGenerator", "OmniParts",
    "OmniPiece", "OmniSession", "OmniState", "OmniVoice", "SamplingDefaults", "TextControls", "TextGenerator",
    "TextSampling", "TextSession", "TextState", "TextStream", "TextTokenizer", "Transcript", "converse", "heard",
    "silent_tokens", "text_pieces", "transcribe",
]  # fmt: skip
