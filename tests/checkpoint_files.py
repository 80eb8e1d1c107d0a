"""Small checkpoints in Kyutai's layout for the weight tests, from the golden list of names and shapes."""

import json
import os
import pickle
import zipfile
import zlib
from pathlib import Path

import ml_dtypes
import numpy as np
from safetensors.numpy import load_file, save_file

from tests.paths import GOLDENS

LAYOUTS = json.loads((GOLDENS / "layouts.json").read_text())
FULL_SIZE = ("moshi_7b", "mimi")
LMS = [case for case in LAYOUTS if case not in FULL_SIZE and not case.startswith("mimi")]
MIMIS = [case for case in LAYOUTS if case not in FULL_SIZE and case.startswith("mimi")]
MIMI_NAME = "tokenizer-e351c8d8-checkpoint125.safetensors"


def tensors(case, dtype=ml_dtypes.bfloat16, seed=0):
    """Random tensors of a case by published name; conditioners and codecs in float32, as they are published."""
    out = {}
    for name, shape in LAYOUTS[case]["tensors"].items():
        rng = np.random.default_rng(zlib.crc32(f"{seed}/{name}".encode()))
        kind = np.float32 if case in MIMIS or name.startswith("condition_provider.") else dtype
        out[name] = rng.standard_normal(shape, np.float32).astype(kind)
    return out


def write_lm(folder, case="plain", names=None, dtype=ml_dtypes.bfloat16, **extra):
    """A folder with config.json and model.safetensors; returns the tensors. Adapters stay in the model's file."""
    folder.mkdir(parents=True, exist_ok=True)
    held = tensors(case, dtype) if names is None else names
    (folder / "config.json").write_text(json.dumps(LAYOUTS[case]["config"] | extra))
    save_file(held, folder / "model.safetensors")
    return held


def write_mimi(folder, case="mimi_small", name=MIMI_NAME, config="mimi_config.json"):
    """A codec's file and its configuration; returns the tensors."""
    folder.mkdir(parents=True, exist_ok=True)
    held = tensors(case)
    (folder / config).write_text(json.dumps(LAYOUTS[case]["config"]))
    save_file(held, folder / name)
    return held


def write_shards(folder, held):
    """The tensors in two files and their index; returns the files' names."""
    files = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    where = {name: files[i % 2] for i, name in enumerate(held)}
    for file in files:
        save_file({name: value for name, value in held.items() if where[name] == file}, folder / file)
    index = {"metadata": {"total_size": 1}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return files


def read_all(folder):
    """Every tensor in the folder's safetensors files."""
    found = {}
    for path in sorted(Path(folder).glob("*.safetensors")):
        found |= load_file(path)
    return found


def assert_same(found, expected):
    """Names, shapes, dtypes and bytes."""
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert (found[name].shape, found[name].dtype) == (tensor.shape, tensor.dtype), name
        assert found[name].tobytes() == tensor.tobytes(), name


_STORAGES = {"float32": "FloatStorage", "bfloat16": "BFloat16Storage", "int64": "LongStorage"}


def torch_pickle(held, wrap=()):
    """What torch.save pickles of a state dict, under the keys of `wrap`; (bytes, records)."""
    records = {}

    def text(value):
        return b"X" + len(value.encode()).to_bytes(4, "little") + value.encode()

    def ints(values):
        return b"(" + b"".join(b"J" + int(v).to_bytes(4, "little") for v in values) + b"t"

    body = b"\x80\x02" + b"".join(b"}" + text(key) for key in wrap) + b"ccollections\nOrderedDict\n)R("
    for i, (name, value) in enumerate(held.items()):
        records[f"data/{i}"] = value.tobytes()
        strides = [s // value.itemsize for s in value.strides]
        storage = b"(" + text("storage") + f"ctorch\n{_STORAGES[value.dtype.name]}\n".encode() + text(str(i))
        storage += text("cpu") + b"J" + value.size.to_bytes(4, "little") + b"tQ"
        body += text(name) + b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\x00" + ints(value.shape)
        body += ints(strides) + b"\x89ccollections\nOrderedDict\n)RtR"
    return body + b"u" + b"s" * len(wrap) + b".", records


def write_torch(path, held, wrap=(), pickled=None):
    """A file as torch.save writes it, without torch; `pickled` replaces its pickle."""
    body, records = torch_pickle(held, wrap)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", body if pickled is None else pickled)
        archive.writestr("archive/byteorder", "little")
        for name, data in records.items():
            archive.writestr(f"archive/{name}", data)
        archive.writestr("archive/version", "3\n")
    return path


class Attack:
    """A pickle that runs a shell command."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def attack(marker):
    """The bytes of a pickle that would make the file `marker`."""
    return pickle.dumps({"model": Attack(f"touch {marker}")}, 2)
