"""The authorities that only this machine knows reach the image, and no others."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "ansible/playbooks/local/image/trust_host_cas.py"


def certificate(name: str, newline: str = "\n") -> str:
    """A PEM block; nothing here reads what it certifies."""
    lines = ("-----BEGIN CERTIFICATE-----", name * 16, name * 4, "-----END CERTIFICATE-----")
    return newline.join(lines) + newline


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, on an image whose Debian knows AAAA and BBBB."""
    spec = importlib.util.spec_from_file_location("trust_host_cas", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    debian = tmp_path / "debian.crt"
    debian.write_text(certificate("AAAA") + certificate("BBBB"))
    extra = tmp_path / "extra"
    extra.mkdir()
    monkeypatch.setattr(module, "DEBIAN", debian)
    monkeypatch.setattr(module, "EXTRA", extra)
    return module


def added(script: ModuleType, bundle: str | bytes, tmp_path: Path) -> list[str]:
    """The certificates that a bundle of this machine adds."""
    file = tmp_path / "host.pem"
    file.write_bytes(bundle if isinstance(bundle, bytes) else bundle.encode())
    sys.argv[1:] = [str(file)]
    script.main()
    return [path.read_text() for path in sorted(script.EXTRA.iterdir())]


@pytest.fixture(autouse=True)
def _arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [str(SCRIPT)])


def test_only_certificates_that_debian_lacks_are_added(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = certificate("AAAA") + certificate("PROXY") + certificate("BBBB") + certificate("CORP")
    assert added(script, bundle, tmp_path) == [certificate("PROXY"), certificate("CORP")]
    assert "2 certificate authorities" in capsys.readouterr().out


def test_the_layout_of_a_certificate_makes_no_difference(
    script: ModuleType, tmp_path: Path
) -> None:
    # Another length of lines, other ends of them, and a comment in nobody's encoding.
    wrapped = certificate("AAAA").replace("A" * 64, "A" * 40 + "\n" + "A" * 24)
    windows = certificate("BBBB", "\r\n")
    bundle = "# Ümlaut Root CA\r\n".encode("latin-1") + (wrapped + windows).encode()
    assert added(script, bundle, tmp_path) == []


def test_update_ca_certificates_takes_the_names(script: ModuleType, tmp_path: Path) -> None:
    added(script, certificate("PROXY"), tmp_path)
    # It reads files of this suffix only, one certificate each.
    assert [path.suffix for path in script.EXTRA.iterdir()] == [".crt"]
