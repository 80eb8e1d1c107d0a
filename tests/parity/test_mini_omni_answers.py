"""Mini-Omni's answers against recorded ones of the original, by tools/goldens/make_omni.py; needs no torch.

Greedy tokens of every mode, from the original's prompts, KV cache and loops: of 200 steps, and of answers that end.
"""

import json

import numpy as np
import pytest

from jomni.models.mini_omni import MiniOmniConfig
from jomni.models.mini_omni.generate import OmniGenerator
from jomni.models.mini_omni.session import OmniSession
from jomni.models.mini_omni.streams import Task
from tests.cases import slow_except
from tests.parity.test_mini_omni_golden import CASES, DATA, params_of
from tools.goldens import omni_cases

ANSWERS = json.loads((DATA / "answers.json").read_text())


@pytest.mark.parametrize(
    "name", slow_except({"A1-A2 short", "T1-T2 short", "A1-A2-parallel long", "A1-A2-post short"}, ANSWERS)
)
def test_greedy_tokens_are_those_of_the_original_to_the_end(name, say):
    found = ANSWERS[name]
    task, voice, case = omni_cases.ANSWERS[found["mode"]]
    config = MiniOmniConfig.from_published(omni_cases.answering(found["mode"]))
    drawn = omni_cases.answer_weights(CASES[case]["tensors"], found["seed"], found["ends"])
    generator = OmniGenerator(config, omni_cases.CONTEXT, voice, block=16)
    session = OmniSession(generator, generator.prepare(params_of(config, drawn)))
    text, features = omni_cases.question(found["seed"])
    session.ask([[text.tolist() if task.startswith("T1") else features]], Task(task))
    with np.load(DATA / "answers.npz") as goldens:
        theirs = goldens[name]
    ours = np.array([session.step()[0] for _ in range(theirs.shape[1])]).T
    assert theirs.shape[1] == omni_cases.LONG or found["ends"]
    np.testing.assert_array_equal(ours[-len(theirs) :], theirs)
    if found["ends"]:  # the step of the end is not among those that the original keeps
        session.step()
        assert session.slots[0].complete and not session.slots[0].active
    say(f"Mini-Omni {name}: {theirs.shape[1]} steps of {len(theirs)} streams equal{', and the end' * found['ends']}")
