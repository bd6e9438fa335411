"""Hand update-ca-certificates the authorities that this machine trusts and Debian does not know.

A proxy that inspects TLS signs with such an authority: without it nothing can be installed in a
container.

Usage: trust_host_cas.py BUNDLE
"""

import re
import sys
from pathlib import Path

CERTIFICATE = re.compile("-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
DEBIAN = Path("/etc/ssl/certs/ca-certificates.crt")
EXTRA = Path("/usr/local/share/ca-certificates")


def certificates(bundle: Path) -> list[str]:
    """The PEM certificates of a bundle, in order, without the text between them."""
    return CERTIFICATE.findall(bundle.read_text(encoding="utf-8", errors="replace"))


def main() -> None:
    known = {"".join(pem.split()) for pem in certificates(DEBIAN)}
    unknown = [pem for pem in certificates(Path(sys.argv[1])) if "".join(pem.split()) not in known]
    for number, pem in enumerate(unknown):
        (EXTRA / f"host-{number:03}.crt").write_text(pem + "\n", encoding="ascii")
    print(f"{len(unknown)} certificate authorities of this machine added")


if __name__ == "__main__":
    main()
