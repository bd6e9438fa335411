"""Lookup plugin: one digest of everything below some files and folders."""

from __future__ import annotations

import hashlib
from pathlib import Path

from ansible.errors import AnsibleError
from ansible.plugins.lookup import LookupBase

DOCUMENTATION = """
name: tree_digest
short_description: SHA-256 over the names and contents of files and folders
description:
  - Names the content of a source tree, so that an image or a release is rebuilt when, and only
    when, one of its inputs has changed.
  - Byte code, caches and hidden files are left out. Order and modification times do not matter.
options:
  _terms:
    description: Paths of files and folders on the controller.
    required: true
"""

EXAMPLES = """
- ansible.builtin.debug:
    msg: "{{ lookup('tree_digest', 'services/model_api/src', 'locks/model_api.txt') }}"
"""

RETURN = """
_raw:
  description: One digest, 64 hexadecimal digits, of all the paths together.
  type: list
  elements: str
"""


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    return sorted(
        file
        for file in path.rglob("*")
        if file.is_file()
        and not any(
            part.startswith(".") or part == "__pycache__" for part in file.relative_to(path).parts
        )
    )


class LookupModule(LookupBase):
    """See ``DOCUMENTATION``."""

    def run(
        self, terms: list[str], variables: dict[str, object] | None = None, **kwargs: object
    ) -> list[str]:
        digest = hashlib.sha256()
        for term in terms:
            path = Path(term)
            if not path.exists():
                raise AnsibleError(f"tree_digest: {term} does not exist on the controller")
            for file in _files(path):
                name = file.relative_to(path).as_posix() if file != path else path.name
                content = file.read_bytes()
                digest.update(f"{name}\0{len(content)}\0".encode())
                digest.update(content)
        return [digest.hexdigest()]
