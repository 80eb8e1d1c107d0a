"""States, outputs and frames print shapes and dtypes, not numbers."""

import importlib
import pkgutil

import numpy as np

import jomni
import jomni.generation
import jomni.models
import jomni.nn
from jomni.models.moshi.conversation import Frame, Piece, Transcript
from jomni.printing import short_repr


def named_tuples():
    for package in (jomni.models, jomni.nn, jomni.generation):
        for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            for value in vars(importlib.import_module(found.name)).values():
                if isinstance(value, type) and issubclass(value, tuple) and value.__module__ == found.name:
                    yield value


def test_every_named_tuple_of_models_prints_shapes():
    kinds = set(named_tuples())
    assert len(kinds) > 20
    plain = {
        kind.__qualname__
        for kind in kinds
        if "__repr__" not in vars(kind) or "short_repr" not in kind.__repr__.__code__.co_names
    }
    assert plain == set()


def test_frames_and_transcripts_fit_a_screen():
    frame = Frame(0, *[np.zeros((4, 1920), np.float32)] * 6, 1.0, (np.zeros((4, 48)),))
    transcript = Transcript(jomni.MIMI, [frame] * 500, 0, 0.0, [Piece(0, 0.1, 3, " a")] * 99, np.zeros(10**6), [])
    assert "float32[4,1920]" in repr(frame) and len(repr(frame)) < 400
    assert "[500 Frame]" in repr(transcript) and len(repr(transcript)) < 2000


def test_the_printed_form_names_nested_arrays_by_number_and_size():
    class Pair(tuple):
        _fields = ("a", "b")
        a = property(lambda self: self[0])
        b = property(lambda self: self[1])

    assert (
        short_repr(Pair((np.zeros(3, np.int32), {"x": np.zeros(5)}))) == "Pair(a=int32[3], b=dict(1 arrays, 4e-05 MB))"
    )
