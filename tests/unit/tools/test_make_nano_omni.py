"""The recipe of nano-omni: its commands exist, and each reads what earlier ones wrote."""

import itertools
from pathlib import Path

from jomni.cli.parser import parse
from jomni.train.config_files import read_config
from jomni.train.overrides import override
from jomni.train.tasks.mini_omni import ALIGN, OmniConfig
from tools.make_nano_omni import KINDS, MUTE, STAGES, recipe, report
from tools.synth import kinds

VOICE = ("omni_latent", "omni_codec", "omni_decoder", "omni_decoder_again")


def commands(work: Path, share: float = 1.0) -> list[tuple[str, ...]]:
    return [command[2:] for stage in recipe(work, share).values() for command in stage.commands]


def test_every_training_reads_what_earlier_commands_wrote(tmp_path):
    trained, made, checked = {}, set(), 0
    for module, *words in commands(tmp_path):
        if module == "tools.synth":
            made |= {word for word in words if word.startswith(str(tmp_path))}
        elif words[0] == "train":
            config = override(read_config(words[1]), words[2:])
            trained[config.name] = config.task
            made.add(f"{tmp_path}/{config.name}/export")
            if isinstance(config.task, OmniConfig):
                given = (*config.task.data.files, config.task.init_from, config.task.backbone, config.task.encoder)
                needed = {path for path in given if path is not None}
                assert needed and made >= needed, config.name
                checked += 1
    assert checked == len([task for task in trained.values() if isinstance(task, OmniConfig)]) >= 3
    assert set(trained) == {"omni_speech_encoder", *VOICE, *STAGES} and set(KINDS) < set(kinds.FINITE)
    one, text = trained["omni_stage1"], trained["omni_stage0"]
    assert one.freeze == ALIGN and one.voice.audio_size == trained["omni_codec"].model.codebook_size
    assert one.data.seconds <= trained["omni_speech_encoder"].model.n_audio_ctx / 50
    assert text.model.max_positions > max(max(trained[name].data.lengths) for name in STAGES[1:])
    for before, after in itertools.pairwise(VOICE):
        assert trained[after].init_from == f"{tmp_path}/{before}/export"
        assert trained[after].model == trained[before].model
    for name in VOICE[2:]:
        assert trained[name].freeze == ("encoder", "quantizer"), "the codes stay as they are"


def test_every_stage_is_evaluated_once(tmp_path):
    measured = [parse(words) for _, *words in commands(tmp_path) if words[0] == "eval"]
    assert [options.model for options in measured] == [f"{tmp_path}/{name}/export" for name in STAGES]
    for name, options in zip(STAGES, measured, strict=True):
        assert options.out == report(tmp_path, name).parent and options.codec == f"{tmp_path}/{VOICE[-1]}/export"
        assert (options.tasks is None) == (name not in MUTE)
    report(tmp_path, STAGES[0]).parent.mkdir(parents=True)
    report(tmp_path, STAGES[0]).write_text("{}")
    assert len([words for _, *words in commands(tmp_path) if words[0] == "eval"]) == len(STAGES) - 1


def test_a_small_share_has_little_audio_and_all_text(tmp_path):
    drawn = [words for _, *words in commands(tmp_path, 0.001) if words[0] == "turns"]
    assert {Path(words[1]).name: int(words[3]) for words in drawn} == {
        "turns.tsv": 60_000, "turns_valid.tsv": 1000, "train.tsv": 64, "valid.tsv": 64, "test.tsv": 64,
        "readings.tsv": 64, "sums.tsv": 64,
    }  # fmt: skip
