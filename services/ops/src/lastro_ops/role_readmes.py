"""Write the table of variables in each role's README from its argument specs.

With --check nothing is written: each README that differs is named, and each variable of which
defaults/main.yml and meta/argument_specs.yml disagree. Exit status 1 when there is any.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TypedDict

import yaml

from lastro_ops.errors import OpsError
from lastro_ops.project import Project

BEGIN = "<!-- Variables: written by lastro-ops role-readmes -->"
END = "<!-- End of variables -->"
MISSING = object()


class Option(TypedDict, total=False):
    """A variable in an argument spec."""

    type: str
    elements: str
    description: str
    choices: list[str]
    required: bool
    default: object
    options: dict[str, Option]


class EntryPoint(TypedDict):
    """An entry point of a role: a file of tasks."""

    description: str
    options: dict[str, Option]


def entry_points(role: Path) -> dict[str, EntryPoint]:
    """The argument specs of a role by entry point."""
    text = (role / "meta" / "argument_specs.yml").read_text(encoding="utf-8")
    specs: dict[str, EntryPoint] = yaml.safe_load(text)["argument_specs"]
    return specs


def cell(text: str) -> str:
    """Text as a cell of a Markdown table."""
    return " ".join(text.split()).replace("|", "\\|")


def default_of(option: Option) -> str:
    """The default of an option as a cell shows it."""
    if option.get("required"):
        return "required"
    if "default" not in option:
        return ""
    value = option["default"]
    text = value if isinstance(value, str) and value else json.dumps(value)
    return f"`{text}`"


def rows(options: dict[str, Option], prefix: str = "") -> Iterator[str]:
    """One row for each option and, below it, for each of its keys."""
    for name, option in sorted(
        options.items(), key=lambda item: not item[1].get("required", False)
    ):
        kind = option["type"] + (f" of {option['elements']}" if "elements" in option else "")
        about = cell(option["description"])
        if "choices" in option:
            about += f" One of {', '.join(option['choices'])}."
        yield f"| `{prefix}{name}` | {kind} | {cell(default_of(option))} | {about} |"
        inner = f"{prefix}{name}{'[]' if option['type'] == 'list' else ''}."
        yield from rows(option.get("options", {}), inner)


def variables(role: Path) -> str:
    """The generated part of a README: a table for each entry point."""
    lines = [BEGIN, ""]
    for name, spec in entry_points(role).items():
        if name != "main":
            lines += [f"### `tasks_from: {name}`", "", cell(spec["description"]), ""]
        lines += [
            "| variable | type | default | |",
            "|---|---|---|---|",
            *rows(spec["options"]),
            "",
        ]
    return "\n".join([*lines, END])


def disagreements(role: Path) -> Iterator[str]:
    """The differences between defaults/main.yml and the argument specs, one line per variable."""
    file = role / "defaults" / "main.yml"
    defaults: dict[str, object] = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    commented = set(re.findall(r"^# ([a-z_]+):", file.read_text(encoding="utf-8"), re.MULTILINE))
    # A special entry point may require a variable that `main` does not use.
    specs = entry_points(role)
    manual = {"main": specs["main"]} if "main" in specs else specs
    options = {name: option for spec in manual.values() for name, option in spec["options"].items()}
    for name in sorted(defaults.keys() | options.keys()):
        if name not in options:
            yield f"{role.name}: {name} is in the defaults and not in the specs"
        elif name in defaults:
            specified = options[name].get("default", MISSING)
            if specified != defaults[name]:
                shown = "none" if specified is MISSING else json.dumps(specified)
                default = json.dumps(defaults[name])
                yield f"{role.name}: {name} is {default} in the defaults, {shown} in the specs"
        elif "default" in options[name]:
            yield f"{role.name}: {name} has a default in the specs only"
        elif name not in commented:
            yield f"{role.name}: the defaults lack a comment line '# {name}: ...'"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `lastro-ops role-readmes`."""
    parser.add_argument("--check", action="store_true", help="write nothing; name what differs")


def run(project: Project, options: argparse.Namespace) -> None:
    """Write or check the README of every role."""
    faults: list[str] = []
    specs = (project.root / "ansible" / "roles").glob("*/meta/argument_specs.yml")
    for role in sorted(path.parent.parent for path in specs):
        faults += disagreements(role)
        readme = role / "README.md"
        text = readme.read_text(encoding="utf-8")
        before, found, rest = text.partition(BEGIN)
        if not found:
            faults.append(f"{role.name}: README.md has no line '{BEGIN}'")
            continue
        wanted = before + variables(role) + rest.partition(END)[2]
        if wanted == text:
            continue
        if options.check:
            faults.append(
                f"{role.name}: README.md differs from the specs; run lastro-ops role-readmes"
            )
        else:
            readme.write_text(wanted, encoding="utf-8")
    if faults:
        raise OpsError("\n".join(faults))
