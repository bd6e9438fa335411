"""Compare a running environment with this checkout, and change nothing.

Writes .lastro/ENV/drift.md, which is empty when nothing has drifted: Terraform's plan, and what
`site.yml --check --diff` would change. Drift is not an error: the exit status is 0 unless one of
the two could not be determined.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys

from lastro_ops.errors import OpsError
from lastro_ops.markdown import folded
from lastro_ops.project import Project

# The recap that ends a playbook: how much each host would change.
RECAP = re.compile(r"^(\S+)\s+: ok=\d+\s+changed=(\d+)", re.MULTILINE)
COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def shown(project: Project, *argv: str) -> str:
    """Run a command, print its output as it comes, and return it without colours.

    Raises:
        OpsError: the command failed.
    """
    process = subprocess.Popen(
        argv, cwd=project.root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    lines = []
    assert process.stdout
    for line in process.stdout:
        print(line, end="", flush=True)
        lines.append(COLOURS.sub("", line))
    if status := process.wait():
        raise OpsError(f"{' '.join(argv)} ended with {status}; see above")
    return "".join(lines)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `lastro-ops drift`."""
    parser.add_argument("environment", metavar="ENV")


def run(project: Project, options: argparse.Namespace) -> None:
    """Compare, and write the report."""
    environment = project.environment(options.environment)
    name = environment.name
    report = environment.state / "drift.md"
    report.unlink(missing_ok=True)
    parts = []

    # In a separate process: an environment on one machine changes the process's AWS variables.
    shown(project, sys.executable, "-P", "-m", "lastro_ops", "terraform", name, "plan")
    summary = (environment.plan / "summary.md").read_text(encoding="utf-8")
    # A plan that nobody has read must not be applied.
    (environment.plan / "tfplan").unlink()
    if "nothing to change" not in summary.splitlines()[0]:
        parts.append(f"Terraform's plan is not empty.\n\n{summary}")

    playbook = str(project.programs / "ansible-playbook")
    output = shown(project, playbook, "-i", f"inventory/{name}", "site.yml", "--check", "--diff")
    changed = {host: int(number) for host, number in RECAP.findall(output) if int(number)}
    if not RECAP.search(output):
        raise OpsError("site.yml --check has ended without a recap")
    if changed:
        hosts = ", ".join(f"{host}: {number}" for host, number in changed.items())
        parts.append(f"`site.yml` would change the hosts ({hosts}).\n\n{folded('What', output)}")

    report.write_text("\n\n".join(parts), encoding="utf-8")
    where = report.relative_to(project.root)
    print(f"\n{name}: " + (f"drifted; see {where}" if parts else "no drift"))
