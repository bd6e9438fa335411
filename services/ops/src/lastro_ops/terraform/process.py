"""Runs Terraform: the one place that knows its program and assembles its environment."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from lastro_ops.project import Project


@dataclass(frozen=True)
class Output:
    """The output of a run of Terraform."""

    status: int
    stdout: str
    stderr: str


@dataclass(frozen=True)
class Terraform:
    """Terraform in one folder of a checkout.

    Attributes:
        project: the checkout.
        folder: the module, relative to the checkout.
        data: where Terraform keeps its provider, and which backend it uses.
        region: the value of the variable `region`; None leaves it unset.
        interactive: whether Terraform may ask on the terminal.
    """

    project: Project
    folder: str
    data: Path
    region: str | None = None
    interactive: bool = False

    @property
    def variables(self) -> dict[str, str]:
        """The environment variables of each run, next to those of this process."""
        settings = {
            "TF_DATA_DIR": str(self.data),
            "TF_CLI_CONFIG_FILE": str(self.project.state / "terraform.rc"),
            "TF_IN_AUTOMATION": "1",
        }
        if not self.interactive:
            settings["TF_INPUT"] = "0"
        if self.region is not None:
            settings["TF_VAR_region"] = self.region
        return settings

    def argv(self, *arguments: str) -> list[str]:
        """The command line of a run."""
        program = self.project.programs / "terraform"
        return [str(program), f"-chdir={self.project.root / self.folder}", *arguments]

    def capture(self, *arguments: str) -> Output:
        """Run Terraform and return its output, whether or not it succeeded."""
        result = subprocess.run(
            self.argv(*arguments),
            env=os.environ | self.variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        return Output(result.returncode, result.stdout, result.stderr)

    def stream(self, *arguments: str, show: Callable[[str], bool] = lambda line: False) -> Output:
        """Run Terraform and print each line as it comes, if ``show`` picks it.

        Returns:
            Everything printed, as `stdout`: both outputs in their order.
        """
        process = subprocess.Popen(
            self.argv(*arguments),
            env=os.environ | self.variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        lines = []
        assert process.stdout
        for line in process.stdout:
            lines.append(line)
            if show(line):
                print(line, end="", flush=True)
        return Output(process.wait(), "".join(lines), "")

    def replace_this_process(self, *arguments: str) -> NoReturn:
        """Become Terraform: the terminal, signals and the exit status are Terraform's."""
        argv = self.argv(*arguments)
        os.execve(argv[0], argv, os.environ | self.variables)
