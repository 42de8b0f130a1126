"""Settings: one table, three sources, clear complaints, and no secrets when printed."""

from pathlib import Path

import pytest

from deskhand.keys import kept_key, load_keys
from deskhand.settings import ApiKey, SettingsError, load, table

REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "settings.md"


def test_variables_win_over_the_file_and_arguments_over_both(tmp_path: Path) -> None:
    file = tmp_path / "deskhand.toml"
    file.write_text('port = 1\nhost = "file"\nlog_level = "debug"\n')
    settings = load({"DESKHAND_PORT": "2", "DESKHAND_HOST": "environ"}, file, host="given", data_dir=None)
    assert (settings.port, settings.host, settings.log_level) == (2, "given", "debug")


def test_upstreams_and_keys_come_from_the_file(tmp_path: Path) -> None:
    file = tmp_path / "deskhand.toml"
    file.write_text(
        '[[upstreams]]\nurl = "http://a/v1"\nmodels = ["qwen*"]\n[[keys]]\nkey = "k"\nproject = "proj_a"\n'
        '[model_aliases]\n"gpt-5.4" = "qwen"\n'
    )
    settings = load({"DESKHAND_UPSTREAM_URL": "http://b/v1"}, file)
    assert [(u.url, u.models) for u in settings.all_upstreams()] == [
        ("http://a/v1", ("qwen*",)),
        ("http://b/v1", ("*",)),
    ]
    assert settings.keys == (ApiKey("k", "proj_a"),)
    assert settings.model_aliases == {"gpt-5.4": "qwen"}


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"DESKHAND_PORT": "many"}, "port"),
        ({"DESKHAND_UPSTREAM_API": "grpc"}, "upstream_api"),
        ({"DESKHAND_MODEL_ALIASES": "a"}, "asked=served"),
    ],
)
def test_a_bad_setting_is_named(environ: dict[str, str], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        load(environ)


def test_an_unknown_setting_in_the_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "deskhand.toml"
    file.write_text("prot = 1\n")
    with pytest.raises(SettingsError, match="unknown setting 'prot'"):
        load({}, file)


def test_secrets_are_not_printed() -> None:
    settings = load({"DESKHAND_API_KEY": "sk-secret-1", "DESKHAND_UPSTREAM_KEY": "sk-secret-2"}, None)
    assert "sk-secret" not in repr(settings)
    assert "sk-secret" not in repr(settings.all_upstreams())


def test_a_made_key_is_kept_private_and_shown_once(tmp_path: Path) -> None:
    settings = load({}, data_dir=tmp_path)
    first = load_keys(settings)
    again = load_keys(settings)
    assert first.made == first.keys[0].key == again.keys[0].key == kept_key(tmp_path)
    assert again.made is None
    assert (tmp_path / "api_key").stat().st_mode & 0o777 == 0o600


def test_the_reference_lists_every_setting() -> None:
    assert table() in REFERENCE.read_text()
