"""What is said of hosts, and that nothing secret in it is shown. Mirrors: `test_mirrored.py`."""

from modelpm.registry.hosts import Hosts, HostSettings, Mirror, Proxies


def test_a_host_has_its_own_settings_or_the_default() -> None:
    default, own = HostSettings(ca_file="a"), HostSettings(plain_http=True)
    hosts = Hosts(default, {"reg.example:5000": own})
    assert hosts.of("reg.example:5000") is own
    assert hosts.of("REG.example:5000") is own
    assert hosts.of("reg.example") is default
    assert Hosts().of("reg.example") == HostSettings()


def test_a_proxys_password_is_not_shown() -> None:
    shown = repr(Hosts(proxies=Proxies("http://me:s3cret@p", "http://me:s3cret@p", "a.lan")))
    assert "s3cret" not in shown
    assert "a.lan" in shown


def test_a_repository_has_the_mirrors_prefix() -> None:
    assert Mirror("m.lan").repository("a/b") == "a/b"
    assert Mirror("m.lan", prefix="ghcr").repository("a/b") == "ghcr/a/b"
