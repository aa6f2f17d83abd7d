"""Secrets are resolved within what the deployment allows, and appear in no error."""

from __future__ import annotations

import os
import traceback
from pathlib import Path

import pytest

from supervisor.core.errors import ConfigurationError
from supervisor.settings.secrets import SecretBox, SecretResolver, generate_key

SECRET = "correct-horse-battery-staple"


def make_resolver(
    tmp_path: Path, *, environ: dict[str, str] | None = None, box: SecretBox | None = None
) -> SecretResolver:
    folder = tmp_path / "secrets"
    folder.mkdir(exist_ok=True)
    return SecretResolver(environ=environ or {}, env_prefixes=["AGENT_"], dirs=[folder], box=box)


def refusal(resolver: SecretResolver, reference: str) -> str:
    """The text of a refusal, after making sure that the whole chain of exceptions keeps the secret."""
    with pytest.raises(ConfigurationError) as caught:
        resolver.resolve(reference)
    told = "".join(traceback.format_exception(caught.value, chain=True))
    text = str(caught.value)
    assert "\n" not in text
    assert SECRET not in text
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    assert SECRET not in "".join(line for line in told.splitlines() if "resolver.resolve" not in line)
    return text


def test_a_variable_is_read_as_it_is(tmp_path: Path) -> None:
    assert make_resolver(tmp_path, environ={"AGENT_ONE": SECRET}).resolve("env:AGENT_ONE") == SECRET


def test_a_variable_outside_the_prefixes_is_refused_even_where_it_is_set(tmp_path: Path) -> None:
    resolver = make_resolver(tmp_path, environ={"DATABASE_PASSWORD": SECRET})
    assert "SECRET_ENV_PREFIXES" in refusal(resolver, "env:DATABASE_PASSWORD")


def test_an_unset_and_an_empty_variable_are_told_apart(tmp_path: Path) -> None:
    resolver = make_resolver(tmp_path, environ={"AGENT_EMPTY": " \n"})
    assert "AGENT_MISSING is not set" in refusal(resolver, "env:AGENT_MISSING")
    assert "AGENT_EMPTY is empty" in refusal(resolver, "env:AGENT_EMPTY")


def test_no_prefix_allows_nothing(tmp_path: Path) -> None:
    resolver = SecretResolver(environ={"AGENT_ONE": SECRET}, env_prefixes=[], dirs=[], box=None)
    assert "none" in refusal(resolver, "env:AGENT_ONE")
    assert "none" in refusal(resolver, f"file:{tmp_path}/secret")


@pytest.mark.parametrize(
    ("written", "read"), [("s\n", "s"), ("s\r\n", "s"), ("s\n\n", "s\n"), ("s", "s"), (" s ", " s ")]
)
def test_one_trailing_newline_of_a_file_is_dropped(tmp_path: Path, written: str, read: str) -> None:
    resolver = make_resolver(tmp_path)
    path = tmp_path / "secrets" / "one"
    path.write_bytes(written.encode())
    assert resolver.resolve(f"file:{path}") == read


def test_a_file_outside_the_folders_is_refused_however_it_is_reached(tmp_path: Path) -> None:
    resolver = make_resolver(tmp_path)
    outside = tmp_path / "outside"
    outside.write_text(SECRET)
    beside = tmp_path / "secrets-too"
    beside.mkdir()
    (beside / "one").write_text(SECRET)
    link = tmp_path / "secrets" / "link"
    link.symlink_to(outside)
    for path in (outside, beside / "one", link, tmp_path / "secrets" / ".." / "outside"):
        assert "SECRET_DIRS" in refusal(resolver, f"file:{path}")
    assert "absolute" in refusal(resolver, "file:secrets/one")


def test_a_link_within_the_folders_is_followed(tmp_path: Path) -> None:
    # Kubernetes mounts every secret like this.
    resolver = make_resolver(tmp_path)
    (tmp_path / "secrets" / "..data").mkdir()
    (tmp_path / "secrets" / "..data" / "one").write_text(SECRET)
    (tmp_path / "secrets" / "one").symlink_to(Path("..data") / "one")
    assert resolver.resolve(f"file:{tmp_path}/secrets/one") == SECRET


def test_files_that_hold_no_secret_are_refused(tmp_path: Path) -> None:
    resolver = make_resolver(tmp_path)
    folder = tmp_path / "secrets"
    (folder / "empty").write_text("\n")
    (folder / "large").write_text(SECRET * 4096)
    (folder / "binary").write_bytes(b"\xff\xfe" + SECRET.encode())
    os.mkfifo(folder / "pipe")
    (folder / "loop").symlink_to(folder / "loop")
    expected = {
        "empty": "is empty",
        "large": "larger than 64 KiB",
        "binary": "not text",
        "pipe": "not a regular file",
        "missing": "No such file",
        "loop": "cannot be",
        "nul\0": "cannot be",
    }
    for name, words in expected.items():
        assert words in refusal(resolver, f"file:{folder}/{name}")
    assert "not a regular file" in refusal(resolver, f"file:{folder}")


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_file_is_refused(tmp_path: Path) -> None:
    resolver = make_resolver(tmp_path)
    path = tmp_path / "secrets" / "one"
    path.write_text(SECRET)
    path.chmod(0)
    assert "Permission denied" in refusal(resolver, f"file:{path}")


def test_what_was_sealed_under_an_old_key_opens_and_is_renewed_under_the_first(tmp_path: Path) -> None:
    old, new = generate_key(), generate_key()
    sealed = SecretBox([old]).seal(SECRET)
    both = SecretBox([new, old])
    assert sealed.startswith("fernet:")
    assert SECRET not in sealed
    assert make_resolver(tmp_path, box=both).resolve(sealed) == SECRET
    token = sealed.removeprefix("fernet:").encode()
    renewed = both.renew(token)
    assert renewed is not None
    assert SecretBox([new]).decrypt(renewed) == SECRET.encode()
    assert both.renew(renewed) is None
    with pytest.raises(ConfigurationError, match="None of SUPERVISOR_SECRET_KEYS opens it"):
        SecretBox([generate_key()]).renew(token)


def test_two_programs_can_tell_whether_they_encrypt_under_the_same_key() -> None:
    one, other = generate_key(), generate_key()
    assert SecretBox([one, other]).first_key_id == SecretBox([f" {one}\n"]).first_key_id
    assert SecretBox([one, other]).first_key_id != SecretBox([other, one]).first_key_id
    assert SecretBox([one]).first_key_id not in one


def test_values_are_the_same_when_only_their_sealing_differs(tmp_path: Path) -> None:
    box = SecretBox([generate_key()])
    resolver = make_resolver(tmp_path, box=box)
    sealed, again, other = box.seal(SECRET), box.seal(SECRET), box.seal("another")
    assert resolver.same(sealed, again)
    assert resolver.same({"a": [1, {"b": sealed}]}, {"a": [1, {"b": again}]})
    others: list[object] = [{"a": [1, {"b": other}]}, {"a": [2, {"b": again}]}, {"a": [1]}, {"b": 1}, {"a": sealed}, []]
    for changed in others:
        assert not resolver.same({"a": [1, {"b": sealed}]}, changed)
    assert not resolver.same(sealed, other)
    assert not resolver.same(sealed, "env:AGENT_ONE")
    assert not resolver.same("env:AGENT_ONE", "env:AGENT_TWO")
    assert not resolver.same(sealed, "fernet:nonsense")
    assert not make_resolver(tmp_path).same(sealed, again), "without a key nothing is known of either"
    deep: list[object] = [[]]
    deeper: list[object] = [[1]]
    for _ in range(5000):
        deep, deeper = [deep], [deeper]
    assert not resolver.same([1, deep], [2, deeper])


def test_a_sealed_secret_without_its_key_is_refused(tmp_path: Path) -> None:
    sealed = SecretBox([generate_key()]).seal(SECRET)
    assert "SECRET_KEYS is not set" in refusal(make_resolver(tmp_path), sealed)
    wrong = make_resolver(tmp_path, box=SecretBox([generate_key()]))
    for reference in (sealed, "fernet:", "fernet:ä", sealed[:-5], "fernet:\ud800"):
        assert "cannot be opened" in refusal(wrong, reference)


def test_a_secret_in_the_clear_is_not_repeated(tmp_path: Path) -> None:
    assert "not a reference" in refusal(make_resolver(tmp_path), SECRET)


def test_a_malformed_key_is_named_by_its_position() -> None:
    with pytest.raises(ConfigurationError, match="key 2 is not a Fernet key") as caught:
        SecretBox([generate_key(), SECRET])
    assert SECRET not in str(caught.value)
    with pytest.raises(ConfigurationError, match="empty"):
        SecretBox([])
    for plain in ("", "\ud800"):
        with pytest.raises(ConfigurationError):
            SecretBox([generate_key()]).seal(plain)


def test_nothing_shows_a_secret(tmp_path: Path) -> None:
    key = generate_key()
    box = SecretBox([key])
    resolver = make_resolver(tmp_path, environ={"AGENT_ONE": SECRET}, box=box)
    shown = f"{box!r} {resolver!r} {box} {resolver}"
    assert key not in shown
    assert SECRET not in shown
    assert "AGENT_" in shown


def test_text_is_encrypted_under_the_first_key_and_opened_by_all() -> None:
    old, new = generate_key(), generate_key()
    sealed = SecretBox([old]).encrypt(SECRET.encode())
    assert SECRET.encode() not in sealed
    assert sealed.isascii()
    assert SecretBox([new, old]).decrypt(sealed) == SECRET.encode()
    renewed = SecretBox([new, old]).encrypt(b"")
    assert SecretBox([new]).decrypt(renewed) == b""
    for wrong in (sealed, b"", b"no token", b"\xff"):
        with pytest.raises(ConfigurationError, match="SUPERVISOR_SECRET_KEYS") as caught:
            SecretBox([new]).decrypt(wrong)
        assert caught.value.__suppress_context__
