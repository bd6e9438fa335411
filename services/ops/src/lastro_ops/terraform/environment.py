"""Run Terraform for an environment: its variables, its state, its credentials.

lastro-ops terraform ENV plan         save the changes to .lastro/ENV/plan, and show them
lastro-ops terraform ENV apply-plan   apply the saved plan
lastro-ops terraform ENV apply        plan, ask, apply; --yes: without a question
lastro-ops terraform ENV destroy      plan to destroy everything, apply
lastro-ops terraform ENV ARGUMENT...  anything else, as `terraform ARGUMENT...`

A plan that would destroy the database or a bucket is refused unless ALLOW_DESTROY names each.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from typing import NoReturn

from lastro_ops import aws
from lastro_ops.cost.report import for_review
from lastro_ops.errors import OpsError, UsageError
from lastro_ops.markdown import folded
from lastro_ops.project import Environment, Project
from lastro_ops.terraform.explain import explain
from lastro_ops.terraform.plan import Plan, State, changes_nothing, count, doomed_by, protection
from lastro_ops.terraform.process import Output, Terraform

# A plan that would destroy data is refused: callers can tell that from a failure.
REFUSED = 3


class EnvironmentTerraform:
    """Terraform for one environment, whose AWS API this process has entered.

    Attributes:
        environment: the environment.
        terraform: Terraform with its settings.
    """

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self.name = environment.name
        self.terraform = Terraform(
            environment.project, "terraform", environment.state / "terraform", environment.region
        )

    # ---- running -----------------------------------------------------------------------------
    def read(self, *arguments: str) -> str:
        """Run Terraform and return its output.

        Raises:
            OpsError: it failed.
        """
        output = self.terraform.capture(*arguments)
        if output.status:
            self._fail(output.stderr)
        return output.stdout

    def _check(self, output: Output) -> None:
        if output.status:
            self._fail(output.stdout)

    def _fail(self, output: str) -> NoReturn:
        """Report the error: in one sentence if it is a known one, or in Terraform's words."""
        if known := explain(output, self.name):
            (self.environment.state / "terraform.log").write_text(output, encoding="utf-8")
            raise OpsError(f"{known}\n(Terraform's full output: .lastro/{self.name}/terraform.log)")
        # The lines before the error have been shown already.
        _, found, error = output.partition("\nError:")
        raise OpsError(
            f"Terraform failed in {self.name}\n{(found + error if found else output).strip()}"
        )

    def initialise(self) -> None:
        """Fetch the provider and find the state, unless that was done for the same two."""
        with aws.explained(self.name):
            account, bucket, region = aws.state_bucket(self.environment.region)
        if region is None:
            raise OpsError(
                f"the account {account} has no bucket for Terraform's state ({bucket})."
                " Create it, once per account: make bootstrap"
            )
        backend = {"bucket": bucket, "key": f"{self.name}/terraform.tfstate", "region": region}
        lock = (self.environment.project.terraform / ".terraform.lock.hcl").read_bytes()
        wanted = hashlib.sha256(json.dumps(backend).encode() + lock).hexdigest()
        marker = self.terraform.data / "initialised"
        if marker.exists() and marker.read_text() == wanted:
            return
        options = [f"-backend-config={key}={value}" for key, value in backend.items()]
        self._check(
            self.terraform.stream(
                "init", "-no-color", "-reconfigure", "-lockfile=readonly", *options
            )
        )
        marker.write_text(wanted)

    # ---- plans -------------------------------------------------------------------------------
    def save_plan(self, *options: str) -> Plan:
        """Plan, save the plan, and return it."""
        self.environment.plan.mkdir(parents=True, exist_ok=True)
        file = self.environment.plan / "tfplan"
        file.unlink(missing_ok=True)
        variables = f"-var-file=environments/{self.name}.tfvars"
        self._check(self.terraform.stream("plan", "-no-color", variables, f"-out={file}", *options))
        return self.saved_plan()

    def shown_plan(self) -> str:
        """The saved plan as Terraform shows it."""
        return self.read("show", "-no-color", str(self.environment.plan / "tfplan")).strip()

    def saved_plan(self) -> Plan:
        """The saved plan.

        Raises:
            OpsError: there is none.
        """
        if not (self.environment.plan / "tfplan").exists():
            raise OpsError(
                f"there is no saved plan in .lastro/{self.name}/plan."
                f" Create one: make plan ENV={self.name}"
            )
        plan: Plan = json.loads(self.read("show", "-json", str(self.environment.plan / "tfplan")))
        return plan

    def apply_saved(self, plan: Plan) -> None:
        """Apply the saved plan and remove it.

        Raises:
            OpsError: the plan destroys data that ALLOW_DESTROY does not name, or applying failed.
        """
        doomed = doomed_by(plan)
        if set(doomed) - set(os.environ.get("ALLOW_DESTROY", "").split()):
            things = " and ".join(f"the {kind} {name}" for name, kind in doomed.items())
            raise OpsError(
                f"this plan of {self.name} would destroy {things} with all data. Nothing was"
                " applied. To allow it, name the resources to destroy:"
                f" ALLOW_DESTROY='{' '.join(doomed)}'",
                status=REFUSED,
            )
        ended = False

        def show(line: str) -> bool:
            # Progress. Outputs are for `make inventory`, and an error is printed at the end.
            nonlocal ended
            ended = ended or line.startswith(("Outputs:", "Error:"))
            return not ended

        file = self.environment.plan / "tfplan"
        self._check(self.terraform.stream("apply", "-no-color", str(file), show=show))
        file.unlink()

    def summary(self, plan: Plan, text: str) -> str:
        """The changes of a plan, as Markdown for people to read."""
        parts = [f"### `{self.name}`: {count(plan)}"]
        parts += [
            f"**This would destroy the {kind} `{name}`, with all that is in it.**"
            for name, kind in doomed_by(plan).items()
        ]
        try:
            parts.append(for_review(self.environment, plan))
        except OpsError as error:
            # A missing price must not keep anybody from seeing the plan.
            parts.append(f"Cost unknown: {error}")
        if not changes_nothing(plan):
            parts.append(folded("The plan", text))
        return "\n\n".join(parts) + "\n"

    # ---- commands ----------------------------------------------------------------------------
    def plan(self, *options: str) -> None:
        """Save a plan and show it."""
        plan, text = self.save_plan(*options), self.shown_plan()
        (self.environment.plan / "summary.md").write_text(
            self.summary(plan, text), encoding="utf-8"
        )
        print(text)
        if doomed := doomed_by(plan):
            print(f"This would destroy data: {', '.join(doomed)}.\n")
        print(f"{self.name}: {count(plan)}. Saved: make apply-plan ENV={self.name} applies this.")

    def apply(self, *options: str) -> None:
        """Plan, ask unless the option is `--yes`, and apply."""
        plan = self.save_plan()
        print(f"{self.name}: {count(plan)}", flush=True)
        if changes_nothing(plan):
            return
        if "--yes" not in options:
            print(self.shown_plan())
            if not sys.stdin.isatty():
                raise OpsError(
                    "no terminal to confirm on. Set AUTO_APPROVE=yes, or run make plan and then"
                    " make apply-plan"
                )
            if input(f"Apply this to {self.name}? Type 'yes' to confirm: ") != "yes":
                raise OpsError("nothing was applied")
        self.apply_saved(plan)

    def destroy(self) -> None:
        """Destroy everything, unless a setting protects it."""
        state: State = json.loads(self.read("show", "-json"))
        if kept := protection(state):
            raise OpsError(
                f"{self.name} is protected. Nothing was destroyed. First set {' and '.join(kept)}"
                f" in terraform/environments/{self.name}.tfvars and make apply ENV={self.name}",
                status=REFUSED,
            )
        try:
            self.apply_saved(self.save_plan("-destroy"))
        finally:
            # After a refusal `apply-plan` must not find it.
            (self.environment.plan / "tfplan").unlink(missing_ok=True)


def entered(environment: Environment) -> EnvironmentTerraform:
    """Terraform for an environment, initialised; this process calls its AWS API from here on.

    Raises:
        OpsError: the AWS API is away or refuses the credentials, or there is no bucket for states.
    """
    environment.state.mkdir(parents=True, exist_ok=True)
    environment.enter_aws()
    terraform = EnvironmentTerraform(environment)
    terraform.initialise()
    return terraform


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `lastro-ops terraform`."""
    parser.add_argument("environment", metavar="ENV", help="a file in terraform/environments")
    parser.add_argument("arguments", metavar="ARGUMENT", nargs=argparse.REMAINDER)


def run(project: Project, options: argparse.Namespace) -> None:
    """Run one command for one environment."""
    environment = project.environment(options.environment)
    if not options.arguments:
        raise UsageError(f"give a command for {environment.name}: plan, apply, ...")
    terraform = entered(environment)
    match options.arguments:
        case ["plan", *rest]:
            terraform.plan(*rest)
        case ["apply-plan"]:
            terraform.apply_saved(terraform.saved_plan())
        case ["apply", *rest]:
            terraform.apply(*rest)
        case ["destroy"]:
            terraform.destroy()
        case arguments:
            terraform.terraform.replace_this_process(*arguments)
