"""The common errors of Terraform, in one sentence each."""

from __future__ import annotations

import re


def explain(output: str, name: str) -> str | None:
    """The meaning of an error and what to do; None for an error that is not explained here.

    Args:
        output: what Terraform printed.
        name: the environment.
    """
    if "Error acquiring the state lock" in output:
        lock = dict(re.findall(r"^\W*(ID|Who|Created):\s+(.+?)\s*$", output, re.M))
        since = lock.get("Created", "").partition(".")[0]
        return (
            f"the state of {name} is locked by {lock.get('Who')} since {since} UTC."
            " Nothing was changed. Wait until that run has ended. If you are sure that it died:"
            f" lastro-ops terraform {name} force-unlock {lock.get('ID')}"
        )
    if "Saved plan is stale" in output:
        return (
            f"the saved plan of {name} is stale: the resources have changed since."
            f" Nothing was applied. Plan again: make plan ENV={name}"
        )
    if refused := re.search(r"AWS account ID not allowed: (\d+)", output):
        return (
            f"these credentials are of the account {refused[1]}, and {name} belongs to another one"
            f" (account_id in terraform/environments/{name}.tfvars). Nothing was changed."
            " Log in to that account, or name its profile in AWS_PROFILE"
        )
    if re.search("ExpiredToken|security token included in the request is expired", output):
        return f"{name}: the AWS credentials have expired. Log in again, then run again"
    return None
