"""Import of a model folder as a user asks for it: a locked-down process converts, this one checks and puts into place.

The result appears complete or not at all. It is loaded once before, under the head that its family has.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from fedward.client.models.importing.convert import check_texts
from fedward.client.models.registry import ModelFiles, read_model_folder
from fedward.errors import ConfigError, FedwardError, ResourceError, table
from fedward.tasks.task import HeadKind

Progress = Callable[[str], None]
MAX_ANSWER_BYTES = 64 * 1024
MEMORY_FLOOR, MOST_MEMORY = 4 * 2**30, 2**40
SECONDS_FLOOR, BYTES_A_SECOND = 300, 2 * 2**20
_GROWTH = 20
"""By what the smallest quantised numbers grow when they are written in float32."""


def import_model(source: Path, target: Path, progress: Progress = lambda _: None) -> ModelFiles:
    """Converts the model folder ``source`` into ``target``, which must not exist yet, or be empty.

    Raises FW-CONFIG-004 (``source`` is no folder), FW-CONFIG-005 (``target`` holds something), FW-MODEL-009 (it cannot
    be written), FW-MODEL-018 (the process needed more than it was allowed, or ended), and like
    :func:`~fedward.client.models.importing.convert.convert`.
    """
    if not source.is_dir():
        raise ConfigError(f"There is no folder {source}.", code="FW-CONFIG-004")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        told = f"The folder {target} already holds something."
        raise ConfigError(told, code="FW-CONFIG-005", fix="Choose another --out folder.")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=".import-", dir=target.parent))
    except OSError as error:
        raise _unwritable(error) from error
    try:
        progress("converting in a process of its own")
        run_confined(source.resolve(), staging.resolve())
        progress("loading the result once")
        files = read_model_folder(staging, target.name)
        check_model(files)
        staging.chmod(0o755)
        staging.replace(target)
    except OSError as error:
        raise _unwritable(error) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return ModelFiles(target.name, target, files.sha256)


def _unwritable(error: OSError) -> ResourceError:
    return ResourceError(f"The model folder cannot be written ({error.strerror}).", code="FW-MODEL-009")


def run_confined(source: Path, target: Path) -> None:
    """Runs the conversion in a process that can do nothing else; raises what it raised, or FW-MODEL-018."""
    size = sum(file.lstat().st_size for file in source.iterdir())
    limits = min(MEMORY_FLOOR + 4 * size, MOST_MEMORY), SECONDS_FLOOR + size // BYTES_A_SECOND, 2**30 + _GROWTH * size
    command = [sys.executable, "-m", "fedward.client.models.importing", str(source), str(target), *map(str, limits)]
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"), "1")
    kept = {key: os.environ[key] for key in ("PATH", "HOME", "PYTHONPATH", "LANG", "TMPDIR") if key in os.environ}
    environment = {**kept, **threads, "TOKENIZERS_PARALLELISM": "false", "PYTHONDONTWRITEBYTECODE": "1"}
    ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, env=environment, check=False)
    error = _told(ended.stdout[:MAX_ANSWER_BYTES])
    if ended.returncode == 0 and error is None:
        return
    if error is None:
        how = f"signal {-ended.returncode}" if ended.returncode < 0 else f"status {ended.returncode}"
        told = (
            f"The process that converts the model ended with {how}: it needed more than it may, or met a damaged file."
        )
        error = ResourceError(told, code="FW-MODEL-018")
    raise error


def _told(answer: bytes) -> FedwardError | None:
    """The error that the process has printed, rebuilt from the table of codes; nothing else of it is believed."""
    try:
        document = json.loads(answer)
    except ValueError:
        return None
    match document:
        case {"code": str() as code, "message": str() as message, "fix": str() as fix} if code in table():
            return FedwardError(message, code=code, fix=fix)
    return None


def check_model(files: ModelFiles) -> None:
    """Loads the model of ``files`` once, under the head that it has; raises FW-MODEL-001, -002, -011 or -012."""
    from fedward.client.models.adapter_model import load_base

    check_texts(files)
    config = files.config()
    # Encoders are published with and without their output over the vocabulary.
    kinds: tuple[HeadKind, ...] = ("causal", "seq2seq")
    load_base(files, next((kind for kind in kinds if kind in config.family.heads), "sequence"))
