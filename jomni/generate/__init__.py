"""All that happens inside one jitted step: delays, sampling, steering, guidance, slots."""

from jomni.generate.controls import FREE, Controls
from jomni.generate.conversation import Frame, converse, heard, silent_tokens, text_pieces
from jomni.generate.duplex import Duplex, DuplexOutput, DuplexState
from jomni.generate.generator import Generator, GeneratorOutput, GeneratorState, Guidance, SamplingDefaults

__all__ = [
    "FREE", "Controls", "Duplex", "DuplexOutput", "DuplexState", "Frame", "Generator", "GeneratorOutput",
    "GeneratorState", "Guidance", "SamplingDefaults", "converse", "heard", "silent_tokens", "text_pieces",
]  # fmt: skip
