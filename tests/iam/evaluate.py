"""Decide requests as IAM does: by the evaluator of MiniStack, in whose environment this runs.

Reads ``{"requests": [...]}`` and answers ``["Allow", "Deny", "ImplicitDeny", ...]``, both as JSON.
"""

import json
import sys

from ministack.core.iam_evaluator import EvalContext, evaluate, parse_policy_document


def decide(request: dict) -> str:
    """The decision on one action and one resource."""
    context = EvalContext(
        principal_arn=request["principal"],
        principal_type="AssumedRole",
        principal_account=request["principal"].split(":")[4],
        action=request["action"],
        resource_arn=request["resource"],
        region=request["region"],
        service_context={key.lower(): value for key, value in request["context"].items()},
    )
    policies = [parse_policy_document(document) for document in request["policies"]]
    limits = [[parse_policy_document(document)] for document in request["boundaries"]]
    return evaluate(context, policies, *limits).decision


json.dump([decide(request) for request in json.load(sys.stdin)["requests"]], sys.stdout)
