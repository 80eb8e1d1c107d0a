"""The synthetic corpus: two-channel conversations between users and an agent, made with speech synthesisers.

    apt install flite espeak-ng          # Debian; the tools also need numpy, scipy, soundfile, soxr and rich

    python -m tools.synth questions                          # kinds of questions, their numbers, what is held out
    python -m tools.synth tokenizer data/words.model         # a tokenizer with one token per word
    python -m tools.synth sentences                          # sentences of the agent, for a recogniser's language model
    python -m tools.synth utterances OUT --hours 3           # for the codec: mono, with phone times
    python -m tools.synth conversations OUT --hours 40       # for the language model: stereo, moshi-finetune's layout
    python -m tools.synth readings OUT --hours 10            # for the language model: the agent alone, reading
    python -m tools.synth tests OUT                          # for evaluation: seen and held-out contents and voices

A conversation is a 16 kHz wav, the agent left and the user right, with a json beside it:

    {"alignments": [["three", [4.1, 4.4], "SPEAKER_MAIN"], ...],     words; the user's have SPEAKER_USER,
                                                                      unsaid words of a cut answer SPEAKER_MAIN_UNSAID
     "turns": [{"kind", "question", "answer", "said", "content", "unseen", "voice", "user_start", "user_end",
                "agent_start", "agent_end", "pause", "interrupted_at", "cut", "backchannel", "halted_by"}, ...],
     "voice": "espeak:m1"}

An utterance's json has "phones", "words" (name, start, end), "text" and "voice". The corpus is a function of the seed.
It is written in shards, so an interrupted command resumes.

    world         words and facts                        voices          speakers, training and held out
    kinds         questions, answers, the split          flite, espeak   the synthesisers
    sentences     sentences for the codec                speak           text and voice -> samples and times
    agent         the agent's speech, cached             room            level, reverberation, noise
    conversation  plans, and their synthesis             utterances, readings, testsets, corpus: the written data
"""
