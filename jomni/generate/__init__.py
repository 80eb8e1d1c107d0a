"""All that happens inside one jitted step: delays, sampling, steering, guidance, slots."""

from jomni.generate.controls import FREE, Controls
from jomni.generate.conversation import Frame, converse, silent_tokens
from jomni.generate.duplex import Duplex, DuplexOutput, DuplexState
from jomni.generate.generator import Generator, GeneratorOutput, GeneratorState, Guidance, SamplingDefaults
from jomni.generate.transcript import Transcript, heard, text_pieces, transcribe

__all__ = [
    "FREE", "Controls", "Duplex", "DuplexOutput", "DuplexState", "Frame", "Generator", "GeneratorOutput",
    "GeneratorState", "Guidance", "SamplingDefaults", "Transcript", "converse", "heard", "silent_tokens",
    "text_pieces", "transcribe",
]  # fmt: skip
