"""The synthetic world: two-channel conversations between users and an agent, made with speech synthesisers.

    apt install flite espeak-ng          # Debian: the voices; Python needs numpy, scipy, soundfile, soxr and rich

    python -m tools.synth questions                          # kinds, how many questions, what is held out
    python -m tools.synth tokenizer data/words.model         # every word one piece
    python -m tools.synth sentences                          # what it may say, for a recogniser's language model
    python -m tools.synth utterances OUT --hours 3           # for the codec: mono, with the times of phones
    python -m tools.synth conversations OUT --hours 40       # for the language model: stereo, moshi-finetune's layout
    python -m tools.synth readings OUT --hours 10            # likewise: the agent alone, reading all its words
    python -m tools.synth tests OUT                          # for evaluation, held-out contents and voices included

A conversation is a 16 kHz wav, the agent left and the user right, and a json beside it:

    {"alignments": [["three", [4.1, 4.4], "SPEAKER_MAIN"], ...],     words; the user's are SPEAKER_USER,
                                                                      those the agent was cut before SPEAKER_MAIN_UNSAID
     "turns": [{"kind", "question", "answer", "said", "content", "unseen", "voice", "user_start", "user_end",
                "agent_start", "agent_end", "pause", "interrupted_at", "cut", "backchannel", "halted_by"}, ...],
     "voice": "espeak:m1"}

An utterance's json has "phones", "words" (name, start, end), "text" and "voice". Everything follows from the seed;
folders are shards, so an interrupted run goes on where it stopped.

    world       what there is to talk about            voices        who speaks, and who is held out
    kinds       questions, answers, the split          flite, espeak the synthesisers
    sentences   ordinary sentences for the codec       speak         text and voice -> samples and times
    agent       what the agent says, kept              room          level, room, noise
    conversation  plans, and how they are spoken       utterances, readings, testsets, corpus: what is written
"""
