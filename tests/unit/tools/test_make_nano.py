"""The recipe of nano: its commands exist, and each reads what earlier ones wrote."""

import dataclasses
import itertools
from pathlib import Path

from jomni.cli.parser import parse
from jomni.train.config_files import read_config
from jomni.train.overrides import override
from tools import ablations
from tools.make_nano import recipe


def walked(stages, work):
    """Return the configurations of the trainings by name, and all outputs; check the inputs of each command."""
    trained, made = {}, set()

    def given(*paths):
        assert made >= {str(path) for path in paths}, sorted({str(path) for path in paths} - made)

    for command in itertools.chain.from_iterable(stage.commands for stage in stages):
        _, _, module, *words = command
        if module == "tools.synth":
            made |= {word for word in words if word.startswith(str(work))}
        elif module == "tools.average":
            given(*words[1:-1])
            made.add(words[0])
        elif words[0] == "train":
            config = override(read_config(words[1]), words[2:])
            task = trained[config.name] = config.task
            if hasattr(task.data, "folders"):
                given(*task.data.folders, task.data.text, task.tokenizer, task.codec)
            else:
                given(Path(task.data.manifest).parent)
            given(*[task.init_from] if task.init_from else [])
            made.add(f"{work}/{config.name}/export")
        else:
            options = parse(words)
            match options.command:
                case "tokenize":
                    given(options.model, options.manifest.parent)
                    made.add(str(options.output))
                case "self-rollout":
                    given(options.model, options.codes)
                    made.add(str(options.output))
                case "convert":
                    given(options.source)
                    made.add(str(options.target))
                case "eval talk":
                    given(options.model, options.tests)
                    made.add(str(options.out))
                case other:
                    raise AssertionError(other)
    return trained, made


def test_every_command_reads_what_earlier_commands_wrote(tmp_path):
    trained, made = walked(recipe(tmp_path).values(), tmp_path)
    assert f"{tmp_path}/nano" in made
    language_models = {"nano_lm", "nano_self_rollout", "nano_again", "nano_anew"}
    assert set(trained) == {"nano_codec", "nano_voice", "nano_decoder"} | language_models
    assert trained["nano_decoder"].freeze == ("encoder", "downsample", "quantizer"), "the codes stay as they are"
    assert trained["nano_voice"].freeze[:2] == ("encoder", "downsample"), "what it hears does not change"
    assert trained["nano_codec"].model == trained["nano_voice"].model == trained["nano_decoder"].model


def test_ablations_differ_only_in_the_missing_part(tmp_path):
    trained, made = walked(ablations.stages(tmp_path, 1.0), tmp_path)
    assert made >= {f"{tmp_path}/{variant.name}.report" for variant in ablations.VARIANTS}
    whole, wordless, depthless, untaught = (trained[variant.name] for variant in ablations.VARIANTS)
    assert whole.monologue and not wordless.monologue
    assert dataclasses.replace(wordless, monologue=True, data=whole.data) == whole
    assert whole.model.depformer_num_layers > 0 == depthless.model.depformer_num_layers
    assert dataclasses.replace(depthless, model=whole.model) == whole
    assert dataclasses.replace(untaught, codec=whole.codec, data=whole.data) == whole != untaught
    assert trained["nano_codec"].weights.distillation > 0 == trained["untaught_codec"].weights.distillation


def test_a_share_multiplies_hours_and_steps(tmp_path):
    def asked(share, flag):
        commands = itertools.chain.from_iterable(stage.commands for stage in recipe(tmp_path, share).values())
        return [float(c[c.index(flag) + 1]) for c in commands if flag in c]

    for flag, least in (("--hours", 0.02), ("--steps", 2)):
        whole, tenth, none = (asked(share, flag) for share in (1, 0.1, 1e-6))
        assert all(abs(a - 0.1 * b) <= 0.02 * b for a, b in zip(tenth, whole, strict=True))
        assert set(none) == {least}
