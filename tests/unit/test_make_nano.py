"""The recipe of nano: its commands are ones that there are, and each begins from what another has made."""

import itertools
from pathlib import Path

from jomni.cli.parser import parse
from jomni.train.overrides import override, read_config
from tools.make_nano import recipe

ROOT = Path(__file__).parents[2]


def test_every_command_is_given_what_the_ones_before_it_have_made(tmp_path):
    trained, made = {}, set()

    def given(*paths):
        assert made >= {str(path) for path in paths}, sorted({str(path) for path in paths} - made)

    for command in itertools.chain.from_iterable(stage.commands for stage in recipe(tmp_path).values()):
        _, _, module, *words = command
        if module == "tools.synth":
            made |= {word for word in words if word.startswith(str(tmp_path))}
        elif module == "tools.average":
            given(*words[1:-1])
            made.add(words[0])
        elif words[0] == "train":
            config = override(read_config(ROOT / words[1]), words[2:])
            task = trained[config.name] = config.task
            if hasattr(task.data, "folders"):
                given(*task.data.folders, task.data.text, task.tokenizer, task.codec)
            else:
                given(Path(task.data.manifest).parent)
            given(*[task.init_from] if task.init_from else [])
            made.add(f"{tmp_path}/{config.name}/export")
        else:
            options = parse(words)
            match options.command:
                case "tokenize":
                    given(options.model, options.manifest.parent)
                    made.add(str(options.output))
                case "rehearse":
                    given(options.model, options.codes)
                    made.add(str(options.output))
                case "convert":
                    given(options.source)
                    made.add(str(options.target))
    assert f"{tmp_path}/nano" in made
    assert set(trained) == {"nano_codec", "nano_voice", "nano_decoder", "nano_lm", "nano_rehearsed", "nano_again"}
    assert trained["nano_decoder"].freeze == ("encoder", "downsample", "quantizer"), "the codes stay as they are"
    assert trained["nano_voice"].freeze[:2] == ("encoder", "downsample"), "what it hears does not change"
    assert trained["nano_codec"].model == trained["nano_voice"].model == trained["nano_decoder"].model


def test_a_share_is_of_the_hours_and_of_the_steps(tmp_path):
    def asked(share, flag):
        commands = itertools.chain.from_iterable(stage.commands for stage in recipe(tmp_path, share).values())
        return [float(c[c.index(flag) + 1]) for c in commands if flag in c]

    for flag, least in (("--hours", 0.02), ("--steps", 2)):
        whole, tenth, none = (asked(share, flag) for share in (1, 0.1, 1e-6))
        assert all(abs(a - 0.1 * b) <= 0.02 * b for a, b in zip(tenth, whole, strict=True))
        assert set(none) == {least}
