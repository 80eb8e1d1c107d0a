"""Files of a checkpoint by name, in a folder or in a hub repository.

Of a hub repository only the requested files are downloaded, through huggingface_hub: its cache, its offline mode
(HF_HUB_OFFLINE) and its tokens apply.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Protocol

import huggingface_hub
from huggingface_hub import errors as hub_errors

from jomni.errors import WeightsError
from jomni.tensors.source import INDEX_SUFFIX, shard_names

ASSETS = Path(__file__).parents[1] / "assets"
"""Folder of the files that come with the package."""

BUNDLED = ("nano", "nano_omni", "nano_snac")
"""Names of the models in `ASSETS`. They take precedence over folders of the same name, which can be given as ./nano."""

_HUB_ID = re.compile(r"[\w][\w.-]*/[\w][\w.-]*")


class Files(Protocol):
    """A place with files, which are found by name."""

    @property
    def name(self) -> str:
        """Return the name of the place for messages."""
        ...

    def find(self, filename: str) -> Path | None:
        """Return the local path of a file, or None if the place does not have it."""
        ...

    def lacks(self, filename: str) -> WeightsError:
        """Return the error for a required file that was not found."""
        ...


class Folder:
    """A local folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = str(path)

    def find(self, filename: str) -> Path | None:
        path = self.path / filename
        return path if path.is_file() else None

    def lacks(self, filename: str) -> WeightsError:
        return WeightsError(f"{self.path / filename}: no such file, but the checkpoint needs it. Put it there.")


class HubRepository:
    """A repository of the Hugging Face hub at one revision (branch, tag or commit; None: the default branch)."""

    def __init__(self, repository: str, revision: str | None = None) -> None:
        self.repository = repository
        self.revision = revision
        self._reached = False  # whether the hub itself answered that a file does not exist
        self.name = f"hub repository '{repository}'" + (f" at revision '{revision}'" if revision else "")

    def find(self, filename: str) -> Path | None:
        try:
            return Path(huggingface_hub.hf_hub_download(self.repository, filename, revision=self.revision))
        except hub_errors.LocalEntryNotFoundError:
            # Offline, a file that is missing in a partially cached repository counts as an optional one.
            if _offline() and self._cached():
                return None
            raise self.lacks(filename) from None
        except hub_errors.EntryNotFoundError:
            self._reached = True
            return None
        except hub_errors.RevisionNotFoundError:
            raise WeightsError(f"{self.name}: no such revision. Give a branch, tag or commit that it has.") from None
        except hub_errors.GatedRepoError:
            raise WeightsError(
                f"{self.name}: access is restricted. Accept its terms on the hub, then log in with `hf auth login`."
            ) from None
        except hub_errors.RepositoryNotFoundError:
            raise WeightsError(
                f"{self.name}: no such repository, or a private one. Check the name; for a private one, log in with "
                "`hf auth login`."
            ) from None
        except (hub_errors.HFValidationError, hub_errors.HfHubHTTPError, OSError) as error:
            told = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise WeightsError(f"{self.name}: '{filename}' could not be fetched ({told}). Try again.") from None

    def fetch(self, patterns: list[str]) -> None:
        """Download all files that match one of the patterns into the cache."""
        try:
            huggingface_hub.snapshot_download(self.repository, revision=self.revision, allow_patterns=patterns)
        except (hub_errors.HfHubHTTPError, hub_errors.LocalEntryNotFoundError, OSError):
            raise self.lacks(", ".join(patterns)) from None

    def lacks(self, filename: str) -> WeightsError:
        if _offline():
            return WeightsError(
                f"{self.name}: '{filename}' is not in the local cache and HF_HUB_OFFLINE is set. "
                "Unset it to download, or give a local folder."
            )
        if not self._reached:
            return WeightsError(
                f"{self.name}: '{filename}' is not in the local cache and the hub cannot be reached. "
                "Check the connection, or give a local folder."
            )
        return WeightsError(f"{self.name}: has no file '{filename}', but the checkpoint needs it. Check the name.")

    def _cached(self) -> bool:
        """Return whether any file of this revision is in the cache."""
        try:
            root = huggingface_hub.snapshot_download(self.repository, revision=self.revision, local_files_only=True)
        except (hub_errors.LocalEntryNotFoundError, OSError, ValueError):
            return False
        return any(Path(root).iterdir())


class Within:
    """A subfolder of a place."""

    def __init__(self, files: Files, folder: str) -> None:
        self.name = f"{files.name}, {folder}"
        self._files, self._folder = files, folder

    def find(self, filename: str) -> Path | None:
        return self._files.find(f"{self._folder}/{filename}")

    def lacks(self, filename: str) -> WeightsError:
        return self._files.lacks(f"{self._folder}/{filename}")


def open_files(source: str | os.PathLike[str], revision: str | None = None) -> tuple[Files, str | None]:
    """Return the files of a source, and the name of the single file that was given, or None.

    Args:
      source: the name of a model in `BUNDLED`, a folder, a file, a hub id `owner/name`, or `hf://owner/name[/file]`.
      revision: revision of a hub repository.

    Raises:
      WeightsError: there is no such source.
    """
    text = os.fspath(source)
    if text in BUNDLED:
        if revision is not None:
            raise WeightsError(f"{text}: comes with jomni and has no revision {revision!r}. Leave it out.")
        return Folder(ASSETS / text), None
    if text.startswith("file://"):
        text = text.removeprefix("file://")
    if text.startswith("hf://"):
        repository, filename = _split_hub(text)
        return HubRepository(repository, revision), filename
    path = Path(text).expanduser()
    if text and path.exists():
        if revision is not None:
            raise WeightsError(f"{text}: a revision ({revision!r}) was given, but this is a local path. Leave it out.")
        return (Folder(path), None) if path.is_dir() else (Folder(path.parent), path.name)
    if _HUB_ID.fullmatch(text) and not path.suffix.startswith((".safetensors", ".pt", ".bin")):
        return HubRepository(text, revision), None
    raise WeightsError(
        f"{text!r}: no such file or folder, and not a hub id of the form owner/name. Check the path or the name."
    )


def resolve(files: Files, name: str) -> Path | None:
    """Return a file named by a configuration: in `files`, or elsewhere as `hf://owner/name/file` or `file://path`.

    Follows `hf_get` of moshi/models/loaders.py, but uses other repositories at their default revision.
    """
    if name.startswith("hf://"):
        repository, filename = _split_hub(name)
        if filename is None:
            raise WeightsError(f"{files.name}: its configuration names {name!r}. Complete it: hf://owner/name/file")
        return HubRepository(repository).find(filename)
    if name.startswith("file://"):
        path = Path(name.removeprefix("file://"))
        return path if path.is_file() else None
    return files.find(name)


def resolve_weights(files: Files, name: str) -> Path | None:
    """Return the path of a weight file, like `resolve`. If it is sharded, get all shards and return their index."""
    path = resolve(files, name)
    if path is None and not name.endswith(INDEX_SUFFIX):
        path, name = resolve(files, name + INDEX_SUFFIX), name + INDEX_SUFFIX
    if path is not None and path.name.endswith(INDEX_SUFFIX):
        stem = name.rpartition("/")[0]
        for shard in sorted(set(shard_names(path).values())):
            resolve(files, f"{stem}/{shard}" if stem else shard)
    return path


def _offline() -> bool:
    return bool(huggingface_hub.constants.HF_HUB_OFFLINE)


def _split_hub(text: str) -> tuple[str, str | None]:
    parts = text.removeprefix("hf://").split("/", 2)
    if len(parts) < 2 or not all(parts):
        raise WeightsError(f"{text!r}: a hub name has the form hf://owner/name or hf://owner/name/file")
    return f"{parts[0]}/{parts[1]}", parts[2] if len(parts) == 3 else None
