"""Which files outside are a model."""

from pathlib import Path

import pytest
from gguf_writer import tiny_llama

from modelpm.errors import ModelError
from modelpm.model import folder
from modelpm.model.folder import Found, found_file, indexes, left_out, role_of, scan, small
from modelpm.model.roles import Role


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("model.gguf", Role.WEIGHTS),
        ("mmproj-f16.gguf", Role.PROJECTOR),
        ("lora.gguf", Role.ADAPTER),
        ("a/tokenizer.model", Role.TOKENIZER),
        ("merges.txt", Role.TOKENIZER),
        ("x.tiktoken", Role.TOKENIZER),
        ("generation_config.json", Role.CONFIG),
        ("chat_template.jinja", Role.TEMPLATE),
        ("LICENSE", Role.LICENSE),
        ("NOTICE", Role.DOCUMENT),
        ("README.md", Role.DOCUMENT),
        ("modeling.py", Role.OTHER),
    ],
)
def test_a_name_tells_the_role(name: str, role: Role) -> None:
    assert role_of(name) is role


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        ("model.GGUF", True),
        ("vocab.json", True),
        ("spiece.model", True),
        ("LICENSE", True),
        ("License.txt", True),
        ("LICENSE.exe", False),
        ("USE_POLICY.md", True),
        ("notes.md", False),
        ("model.bin", False),
        ("model.pt", False),
        ("run.sh", False),
        ("x.py", False),
        (".hidden.json", False),
    ],
)
def test_only_what_engines_and_people_need_is_taken(tmp_path: Path, name: str, taken: bool) -> None:
    (tmp_path / "always.json").write_bytes(b"{}")
    (tmp_path / name).write_bytes(b"x")
    assert (name in {found.name for found in scan(tmp_path)}) == taken


def test_folders_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path.joinpath(*"abcdefghij")
    deep.mkdir(parents=True)
    (deep / "config.json").write_bytes(b"{}")
    (tmp_path / "config.json").write_bytes(b"{}")
    assert [found.name for found in scan(tmp_path)] == ["config.json"]
    monkeypatch.setattr(folder, "MAX_FILES", 5)
    for number in range(6):
        (tmp_path / f"{number}.txt").write_bytes(b"")
    with pytest.raises(ModelError, match="more than 5 files"):
        scan(tmp_path)


def test_small_files_are_bounded(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"12345")
    assert small(tmp_path / "x", 5) == b"12345"
    with pytest.raises(ModelError, match="more than 4 bytes"):
        small(tmp_path / "x", 4)
    with pytest.raises(ModelError, match="No such file"):
        small(tmp_path / "y", 4)


def test_a_link_keeps_the_name_and_tells_the_file(tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(tiny_llama())
    (tmp_path / "m.gguf").symlink_to("blob")
    (found,) = found_file(tmp_path / "m.gguf")
    size = len(tiny_llama())
    assert found == Found(tmp_path / "blob", "m.gguf", Role.WEIGHTS, size)


def test_indexes_are_read(tmp_path: Path) -> None:
    name = "model.safetensors.index.json"
    (tmp_path / name).write_bytes(b"{}")
    (tmp_path / "config.json").write_bytes(b"{}")
    assert indexes(scan(tmp_path)) == {name: b"{}"}


def test_a_folder_that_is_gone_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"reading .*gone"):
        scan(tmp_path / "gone")


def test_what_is_not_taken_is_known(tmp_path: Path) -> None:
    deep = tmp_path / "/".join("abcdefgh")[:-2]
    (deep / "h").mkdir(parents=True)
    for path in ("m.gguf", "x.bin", "a/y.bin", ".git", "consolidated.safetensors", "n.safetensors"):
        (tmp_path / path).write_bytes(b"x")
    (deep / "h" / "z.gguf").write_bytes(b"x")
    assert left_out(tmp_path) == (
        "a/b/c/d/e/f/g/h/",
        "a/y.bin",
        "consolidated.safetensors",
        "x.bin",
    )
    assert left_out(tmp_path / "m.gguf") == ()
    assert left_out(tmp_path / "gone") == ()
    assert left_out(tmp_path / "gone" / "n.safetensors") == ()
    (tmp_path / "config.json").write_bytes(b"{}")
    assert left_out(tmp_path / "n.safetensors") == ("config.json",)
