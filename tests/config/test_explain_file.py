"""`floatip explain FILE` says of each line of a keepalived.conf what it means."""

from pathlib import Path

import pytest

from tests.command_line import floatip

CONF = """global_defs {
    smtp_server 192.0.2.25
    router_idd a
}
include more.conf
vrrp_instance VI_1 {
    interface eth0
    virtual_router_id 51
    use_ipvlan
    authentication {
        auth_type PASS
        auth_pass hunter2
    }
    virtual_ipaddress {
        192.0.2.10/32
    }
}
"""


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    (tmp_path / "more.conf").write_text("vrrp_script chk {\n    script /bin/true\n}\n")
    path = tmp_path / "keepalived.conf"
    path.write_text(CONF)
    return path


def test_each_line_stands_with_its_number_its_file_and_what_it_means(conf: Path) -> None:
    status, said = floatip("explain", str(conf))
    assert status == 0
    lines = said.splitlines()
    assert lines[0] == str(conf)
    assert lines[lines.index("   2    smtp_server 192.0.2.25") + 1].strip().startswith("no effect: ")
    assert (
        lines[lines.index("   3    router_idd a") + 1].strip().startswith("no effect: neither keepalived nor floatip")
    )
    assert lines[lines.index("   9    use_ipvlan") + 1].strip().startswith("refused: ")
    more = lines.index(str(conf.with_name("more.conf")))
    assert lines[more + 1] == "   1  vrrp_script chk"
    assert lines.index("   6  vrrp_instance VI_1") > more
    assert "  15      192.0.2.10/32" in lines
    assert "hunter2" not in said


def test_what_is_no_keepalived_conf_is_refused_with_its_place(conf: Path) -> None:
    conf.write_text("vrrp_instance VI_1 {\n")
    status, said = floatip("explain", str(conf))
    assert status == 2
    assert f"{conf}:1: vrrp_instance VI_1 {{: never closed" in said
    assert floatip("explain", "/etc/floatip/floatip.toml")[0] == 2
    assert floatip("explain", str(conf), "--json")[0] == 2
