"""Parquet files of spoken questions and answers, in the schema of VoiceAssistant-400K (gpt-omni on the Hub).

A row holds the text and the recording of a question, the text of its answer, and the answer's speech as SNAC codes in
a string: for each frame "#" and 7 codes, in the order coarse, middle, fine, fine, middle, fine, fine
(utils/snac_utils.py of Mini-Omni). A file is checked row by row before use. Its recordings are never all in memory.
"""

from __future__ import annotations

import dataclasses
import enum
import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from jomni.audio import resample
from jomni.data.report import Findings, Problem
from jomni.errors import DataError
from jomni.extras import require
from jomni.models.mini_omni.streams import tree_order

_TOKENS_PER_FRAME = (1, 2, 4)  # SNAC's codebooks: coarse, middle, fine
STREAMS = sum(_TOKENS_PER_FRAME)
"""SNAC codes per frame."""

CODEBOOK_SIZE = 4096
"""Entries of each SNAC codebook."""

_COLUMNS = ("split_name", "index", "round", "question", "question_audio", "answer", "answer_snac")
_NEEDED = ("question", "question_audio", "answer", "answer_snac")
_BATCH = 64  # rows in memory at once


class RowKind(enum.Enum):
    """Kinds of problems of a row."""

    MISSING_TEXT = "missing text"
    MISSING_AUDIO = "missing recording"
    UNREADABLE_AUDIO = "unreadable recording"
    BAD_CODES = "malformed answer_snac"
    NOT_TAKEN = "does not fit the model"


@dataclasses.dataclass(frozen=True)
class Turn:
    """A spoken question and its answer."""

    question: str
    question_audio: bytes  # content of a sound file that soundfile can read
    answer: str
    answer_codes: Int[np.ndarray, "A F"]  # int32: SNAC codes of the answer, A = 7 streams
    split_name: str = "train"
    index: str = ""
    round: str = ""

    def read_question(self) -> tuple[np.ndarray, int]:
        """Decode the question: samples, float32 [channels, samples], and their rate in Hz."""
        import soundfile

        pcm, rate = soundfile.read(io.BytesIO(self.question_audio), dtype="float32", always_2d=True)
        return np.ascontiguousarray(pcm.T), rate

    def samples_at(self, sample_rate: int) -> int:
        """Return the length of the question at `sample_rate` Hz, rounded up as librosa does. Reads only the header."""
        import soundfile

        info = soundfile.info(io.BytesIO(self.question_audio))
        return -(-info.frames * sample_rate // info.samplerate)

    def question_at(self, sample_rate: int) -> Float[np.ndarray, "T"]:
        """Return the question at `sample_rate` Hz, float32, mixed to mono."""
        pcm, rate = self.read_question()
        samples = -(-pcm.shape[1] * sample_rate // rate)
        pcm = resample(pcm.mean(0), rate, sample_rate)[:samples]
        return np.pad(pcm, (0, samples - len(pcm)))  # the resampler may round down


class RowReport(Findings[int]):
    """The result of `check_turns`."""

    PART, WHOLE, CURE = "row", "file", "rows"

    @property
    def rows(self) -> tuple[int, ...]:
        """Return the indices of the rows without a problem, in order."""
        return self.good

    def turns(self) -> Iterator[Turn]:
        """Yield the turns of the rows without a problem, in order."""
        good = frozenset(self.rows)
        for number, row in _rows(self.path):
            if number in good:
                yield _turn(row)


class TurnSource:
    """Turns of checked files, by index. A Grain data source, which any number of processes may read.

    Reading a turn reads its row group, so files with small groups are faster. `write_turns` makes groups of 64 rows.
    """

    def __init__(self, reports: Sequence[RowReport]) -> None:
        self._paths = tuple(report.path for report in reports)
        self._places = [(file, row) for file, report in enumerate(reports) for row in report.rows]
        self._files: dict[int, Any] = {}  # open files, each with the first row of each of its groups

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> Turn:
        import pyarrow.parquet as pq

        number, row = self._places[int(index)]
        if number not in self._files:
            file = pq.ParquetFile(self._paths[number])
            sizes = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
            self._files[number] = file, np.cumsum([0, *sizes])
        file, begins = self._files[number]
        group = int(np.searchsorted(begins, row, "right")) - 1
        columns = [name for name in _COLUMNS if name in file.schema_arrow.names]
        table = file.read_row_group(group, columns=columns, use_threads=False)
        return _turn(table.slice(row - int(begins[group]), 1).to_pylist()[0])

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_files": {}}

    @property
    def fingerprint(self) -> str:
        """Return a fingerprint of the files and of the rows used. It does not depend on the files' folders."""
        from jomni.data.pipeline import file_mark, fingerprint  # imports Grain, which reading turns does not need

        return fingerprint([file_mark(path) for path in self._paths], self._places)


def read_turns(path: str | os.PathLike[str], *, skip_bad: bool = False) -> RowReport:
    """Check a parquet file, and reject it if any row has a problem.

    Args:
      path: the file.
      skip_bad: leave out rows with problems (the report counts them) instead of rejecting the file.

    Raises:
      DataError: rows have problems (the message counts all and lists up to `SHOWN`), or no row is left.
      JomniError: pyarrow is not installed.
    """
    return check_turns(path).accepted(skip_bad)


def check_turns(
    path: str | os.PathLike[str], also: Callable[[Turn], Iterator[tuple[RowKind, str]]] | None = None
) -> RowReport:
    """Check all rows of a parquet file, and return the usable ones and all problems.

    Args:
      path: the file.
      also: yields the kind and detail of further problems of a readable turn.

    Raises:
      DataError: the file cannot be read, or lacks columns.
      JomniError: pyarrow is not installed.
    """
    path = Path(path)
    rows, problems, bad = [], [], 0
    for number, row in _rows(path):
        faults = list(_faults(row))
        if not faults and also is not None:
            faults = list(also(_turn(row)))
        problems += [Problem(f"{path}: row {number}", kind, detail) for kind, detail in faults]
        bad += bool(faults)
        if not faults:
            rows.append(number)
    return RowReport(path, tuple(rows), tuple(problems), bad)


def write_turns(path: str | os.PathLike[str], turns: Iterable[Turn]) -> int:
    """Write turns as a parquet file in the same schema, and return their number.

    Raises:
      DataError: a turn would be rejected when read. The message names it; no file is written.
      JomniError: pyarrow is not installed.
    """
    require("train", "pyarrow")
    import pyarrow as pa
    import pyarrow.parquet as pq

    sound = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    schema = pa.schema([(name, sound if name == "question_audio" else pa.string()) for name in _COLUMNS])
    path, count = Path(path), 0
    partial = path.with_name(path.name + ".partial")
    try:
        with pq.ParquetWriter(partial, schema) as writer:
            batch = []
            for count, turn in enumerate(turns, 1):
                row = {
                    "split_name": turn.split_name, "index": turn.index or str(count - 1), "round": turn.round,
                    "question": turn.question, "question_audio": {"bytes": turn.question_audio, "path": None},
                    "answer": turn.answer, "answer_snac": format_snac(turn.answer_codes),
                }  # fmt: skip
                for kind, detail in _faults(row):
                    raise DataError(f"{path}: turn {count - 1} cannot be written: {kind.value}: {detail}.")
                batch.append(row)
                if len(batch) == _BATCH:
                    writer.write_table(pa.Table.from_pylist(batch, schema))
                    batch = []
            if batch:
                writer.write_table(pa.Table.from_pylist(batch, schema))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return count


def parse_snac(text: str) -> Int[np.ndarray, "A F"]:
    """Parse a string "# 1 2 3 4 5 6 7 # ..." into codes, int32 [7, F].

    Raises:
      ValueError: the string has another form or no frame, or a code is not in a codebook.
    """
    before, *frames = text.split("#")
    if before.strip() or not frames:
        raise ValueError(f"it begins with {text[:20]!r}, expected '#' and 7 codes for each frame")
    for number, frame in enumerate(frames):
        codes = frame.split()
        if len(codes) != STREAMS:
            raise ValueError(f"frame {number} has {len(codes)} codes, expected {STREAMS}")
        for code in codes:
            if not (code.isascii() and code.isdigit() and int(code) < CODEBOOK_SIZE):
                raise ValueError(f"frame {number} has the code {code[:20]!r}, expected 0 to {CODEBOOK_SIZE - 1}")
    return np.array([frame.split() for frame in frames]).astype(np.int32).T


def format_snac(codes: Int[np.ndarray, "A F"]) -> str:
    """Format codes as the string that `parse_snac` reads.

    Raises:
      DataError: the codes are not an integer array [7, F].
    """
    codes = np.asarray(codes)
    if codes.ndim != 2 or codes.shape[0] != STREAMS or not np.issubdtype(codes.dtype, np.integer):
        raise DataError(f"SNAC codes must be integers [{STREAMS}, frames], got {codes.dtype} {codes.shape}.")
    return " ".join("# " + " ".join(map(str, frame)) for frame in codes.T.tolist())


def interleave(codes: Sequence[Int[np.ndarray, "N"]]) -> Int[np.ndarray, "A F"]:
    """Interleave the codes of SNAC's three codebooks (1, 2 and 4 codes per frame) into 7 streams, int32.

    Raises:
      DataError: the codebooks have other numbers of codes.
    """
    frames = len(codes[0]) if len(codes) else 0
    if [len(book) for book in codes] != [n * frames for n in _TOKENS_PER_FRAME] or not frames:
        raise DataError(
            f"the answer's codebooks have {[len(book) for book in codes]} codes, expected three codebooks with 1, 2 "
            "and 4 codes per frame, such as those of SNAC's 24 kHz model."
        )
    found = np.zeros((STREAMS, frames), np.int32)
    for places, book in zip(tree_order(_TOKENS_PER_FRAME), codes, strict=True):
        found[places] = np.asarray(book, np.int32).reshape(frames, -1).T
    return found


def _turn(row: Mapping[str, Any]) -> Turn:
    labels = {name: str(row[name]) for name in _COLUMNS[:3] if row.get(name) is not None}
    return Turn(
        row["question"], row["question_audio"]["bytes"], row["answer"], parse_snac(row["answer_snac"]), **labels
    )


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    require("train", "pyarrow")
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            held = file.schema_arrow.names
            if absent := [name for name in _NEEDED if name not in held]:
                raise DataError(f"{path}: has no column {', '.join(absent)}; it has {', '.join(held)}.")
            number = 0
            for batch in file.iter_batches(_BATCH, columns=[name for name in _COLUMNS if name in held]):
                for row in batch.to_pylist():
                    yield number, row
                    number += 1
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: cannot be read as a parquet file ({error}). Download it again.") from error


def _faults(row: Mapping[str, Any]) -> Iterator[tuple[RowKind, str]]:
    import soundfile

    for name in ("question", "answer"):
        if not isinstance(row[name], str) or not row[name].strip():
            yield RowKind.MISSING_TEXT, f"{name} is {row[name]!r}"
    sound = row["question_audio"]
    if not isinstance(sound, Mapping) or not sound.get("bytes"):
        yield RowKind.MISSING_AUDIO, "question_audio holds no bytes"
    else:
        try:
            if soundfile.info(io.BytesIO(sound["bytes"])).frames == 0:
                yield RowKind.UNREADABLE_AUDIO, "question_audio holds no samples"
        except (soundfile.LibsndfileError, TypeError) as error:
            yield RowKind.UNREADABLE_AUDIO, f"question_audio: {error}"
    try:
        if not isinstance(row["answer_snac"], str):
            raise ValueError(f"it is {row['answer_snac']!r}")
        parse_snac(row["answer_snac"])
    except ValueError as error:
        yield RowKind.BAD_CODES, str(error)
