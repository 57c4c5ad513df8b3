"""When a certificate ends, of those that the tests sign and of openssl's."""

import subprocess
import time
from pathlib import Path

import pytest

from floatip.certificate import ending, ends_at
from tests.certificates import Authority


@pytest.mark.parametrize("days", [-3, 9, 100, 365 * 40])
def test_the_end_is_the_one_that_was_signed(tmp_path: Path, days: int) -> None:
    """Beyond 2049 it is written in another form."""
    pair = Authority(tmp_path).sign("one", days)
    assert abs(ends_at(pair.certificate) - (time.time() + days * 86400 + 3600)) < 60


def test_openssl_sees_the_same_end(tmp_path: Path) -> None:
    pair = Authority(tmp_path).sign("one", 9)
    command = ["openssl", "x509", "-noout", "-checkend", str(round(ends_at(pair.certificate) - time.time()) - 60)]
    assert subprocess.run([*command, "-in", str(pair.certificate)], check=False).returncode == 0
    command[-1] = str(int(command[-1]) + 120)
    assert subprocess.run([*command, "-in", str(pair.certificate)], check=False).returncode == 1


def test_an_end_is_told_in_the_last_two_weeks_and_after_it(tmp_path: Path) -> None:
    authority, now = Authority(tmp_path), time.time()
    assert ending(authority.sign("far", 15).certificate, now) == ""
    assert ending(authority.sign("soon", 3).certificate, now).startswith("ends in 3 days: at 20")
    assert ending(authority.sign("over", -3).certificate, now).startswith("has expired: it ended at 20")
    assert ending(authority.sign("over", -3).key, now) == ""
    assert ending(tmp_path / "missing", now) == ""


@pytest.mark.parametrize("cut", [0, 40, 60, 200, 400])
def test_half_a_certificate_is_none(tmp_path: Path, cut: int) -> None:
    text = Authority(tmp_path).sign("one").certificate.read_text()
    half = tmp_path / "half.pem"
    half.write_text(text[:cut] + "\n-----END CERTIFICATE-----\n" * (cut > 0))
    with pytest.raises(ValueError, match="it is no certificate"):
        ends_at(half)
