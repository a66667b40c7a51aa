"""Settings come from flags, else from the environment, else from defaults; errors name them."""

import re
from ipaddress import ip_network
from pathlib import Path

import msgspec
import pytest

from candlestep.api.settings import DESCRIPTIONS, Settings, home_directory, variable_name
from candlestep.sandbox import InvalidParameter


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for setting in DESCRIPTIONS:
        monkeypatch.delenv(variable_name(setting), raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


def test_the_default_that_the_help_names_is_the_default(tmp_path: Path) -> None:
    in_words = {
        "workers": "the number of cores",
        "ray_address": "Ray is started on this machine",
        "trusted_proxies": "none",
        "allow_origin": "none",
        "server_name": "the one in the home",
        "first_key_file": "none",
    }
    for setting, help_text in DESCRIPTIONS.items():
        match = re.search(r"default:? ([^):]+)[^)]*\)$", help_text)
        assert match is not None, setting
        if setting in in_words:
            assert match[1] == in_words[setting]
        else:
            assert Settings.from_environment(**{setting: match[1]}) == Settings.from_environment()


def test_every_setting_has_a_description_a_flag_and_a_variable() -> None:
    assert tuple(DESCRIPTIONS) == Settings.__struct_fields__
    texts = {
        "home": "/h",
        "host": "::1",
        "durability": "power",
        "executor": "ray",
        "ray_address": "::1",
        "trusted_proxies": "10.0.0.1",
        "allow_origin": "https://a",
        "first_key_file": "/f",
        "server_name": "7",
    }
    parsed = texts | {
        "home": Path("/h"),
        "trusted_proxies": (ip_network("10.0.0.1"),),
        "allow_origin": {"https://a"},
        "first_key_file": Path("/f"),
    }
    numbers = dict.fromkeys(Settings.__struct_fields__, "7") | texts
    settings = Settings.from_environment(**numbers)
    assert msgspec.structs.asdict(settings) == {name: parsed.get(name, 7) for name in DESCRIPTIONS}


def test_a_flag_goes_before_a_variable_and_that_before_the_default(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert Settings.from_environment() == Settings(home=tmp_path / ".candlestep")
    monkeypatch.setenv("CANDLESTEP_HOME", "~/there")
    monkeypatch.setenv("CANDLESTEP_PORT", " 9000 ")
    monkeypatch.setenv("CANDLESTEP_MAX_PAIRS", "")
    settings = Settings.from_environment(port=None)
    assert (settings.home, settings.port, settings.max_pairs) == (tmp_path / "there", 9000, 1000)
    assert Settings.from_environment(port="0", home=str(tmp_path)).port == 0
    assert home_directory() == tmp_path / "there"
    assert home_directory("/else") == Path("/else")


def test_a_home_is_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert home_directory("here") == tmp_path / "here"


@pytest.mark.parametrize(
    ("text", "size"),
    [("1", 1), ("500MB", 500_000_000), ("1 KiB", 1024), ("4gib", 4 << 30), ("2GB", 2 * 10**9)],
)
def test_sizes(text: str, size: int) -> None:
    assert Settings.from_environment(memory_budget=text).memory_budget == size


def test_lists() -> None:
    settings = Settings.from_environment(
        trusted_proxies="127.0.0.1, fd00::/8",
        allow_origin="https://App.example.org/,http://[::1]:80",
    )
    assert settings.trusted_proxies == (ip_network("127.0.0.1"), ip_network("fd00::/8"))
    assert settings.allow_origin == {"https://app.example.org", "http://[::1]:80"}


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("executor", "kubernetes"),
        ("ray_address", "10.0.0.5 6379"),
        ("port", "65536"),
        ("port", "-1"),
        ("port", "8e3"),
        ("port", "٣"),
        ("host", "a b"),
        ("memory_budget", "0"),
        ("memory_budget", "lots"),
        ("memory_budget", "9999999999999TiB"),
        ("max_body_bytes", "-5"),
        ("max_pairs", "0"),
        ("max_span_days", "1.5"),
        ("max_pending_orders", "9" * 400),
        ("idle_seconds", "1000000001"),
        ("result_days", "100001"),
        ("max_span_days", "100001"),
        ("workers", "10001"),
        ("trusted_proxies", "proxy.example.org"),
        ("trusted_proxies", "10.0.0.1/8"),
        ("allow_origin", "*"),
        ("allow_origin", "app.example.org"),
        ("allow_origin", "https://app.example.org/path"),
        ("server_name", "a_b"),
        ("server_name", "A"),
        ("home", "~nobody-of-this-name/x"),
    ],
)
def test_what_is_bad_is_named(monkeypatch: pytest.MonkeyPatch, setting: str, value: str) -> None:
    flag = "--" + setting.replace("_", "-")
    with pytest.raises(InvalidParameter, match=f"^{flag}: ") as caught:
        Settings.from_environment(**{setting: value})
    assert len(caught.value.message) < 150
    monkeypatch.setenv(variable_name(setting), value)
    with pytest.raises(InvalidParameter, match=f"^{variable_name(setting)}: "):
        Settings.from_environment()


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.0.3", False),
        ("localhost.example.org", False),
    ],
)
def test_loopback(host: str, expected: bool) -> None:
    assert Settings(home=Path("/h"), host=host).is_loopback is expected
