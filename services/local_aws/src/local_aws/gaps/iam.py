"""Gaps of moto's IAM."""

import os

from moto.iam import models


def offer_managed_policies() -> None:
    """AWS's own policies (AmazonSSMManagedInstanceCore, ...) can be attached.

    moto/iam/models.py: `IAMBackend._init_aws_policies` reads them only if this variable is set.
    """
    os.environ["MOTO_IAM_LOAD_MANAGED_POLICIES"] = "true"


def forget_when_keys_were_used() -> None:
    """A request alone does not change IAM.

    moto/iam/models.py: `mark_account_as_visited` notes the time in the key and in the role, so
    that IAM would have to be saved with every request.
    """
    models.mark_account_as_visited = lambda **_: None
