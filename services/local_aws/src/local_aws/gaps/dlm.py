"""Data Lifecycle Manager: policies are kept, no snapshot is ever made."""

import json
import re
import sys
from copy import deepcopy
from datetime import UTC, datetime
from types import ModuleType
from typing import Literal, NotRequired, TypedDict
from urllib.parse import unquote

from moto import backend_index
from moto.core.base_backend import BackendDict, BaseBackend
from moto.core.exceptions import JsonRESTError
from moto.core.responses import ActionResult, BaseResponse, EmptyResult
from moto.moto_api._internal import mock_random

# The defaults of DLM, for members that a request leaves out.
_DETAILS: dict[str, object] = {
    "PolicyType": "EBS_SNAPSHOT_MANAGEMENT",
    "ResourceLocations": ["CLOUD"],
}
type _Changeable = Literal["Description", "ExecutionRoleArn", "State", "PolicyDetails"]
_CHANGEABLE: tuple[_Changeable, ...] = (
    "Description",
    "ExecutionRoleArn",
    "State",
    "PolicyDetails",
)


class Policy(TypedDict):
    """A lifecycle policy, as GetLifecyclePolicy shows it."""

    PolicyId: str
    PolicyArn: str
    Description: str
    ExecutionRoleArn: str
    State: str
    DateCreated: datetime
    DateModified: datetime
    PolicyDetails: dict[str, object]
    Tags: NotRequired[dict[str, str]]


def serve_lifecycle_policies() -> None:
    """Lifecycle policies can be made, read, tagged, changed and deleted.

    moto/backends.py: `get_backend` finds no package `moto.dlm`, so this module takes its place;
    moto/backend_index.py leads requests to it.
    """
    sys.modules["moto.dlm"] = sys.modules[__name__]
    backend_index.backend_url_patterns.append(("dlm", re.compile(url_bases[0])))


class DlmBackend(BaseBackend):
    """The policies of one region, by id."""

    def __init__(self, region_name: str, account_id: str) -> None:
        super().__init__(region_name, account_id)
        self.policies: dict[str, Policy] = {}

    @property
    def _url_module(self) -> ModuleType:
        return sys.modules[__name__]

    def policy(self, policy_id: str) -> Policy:
        """The policy with this id."""
        if policy_id not in self.policies:
            raise PolicyNotFound(policy_id)
        return self.policies[policy_id]


class PolicyNotFound(JsonRESTError):
    """There is no such policy."""

    code = 404

    def __init__(self, policy_id: str) -> None:
        super().__init__("ResourceNotFoundException", f"there is no lifecycle policy {policy_id}")


class DlmResponse(BaseResponse):
    """The API of Data Lifecycle Manager."""

    def __init__(self) -> None:
        super().__init__(service_name="dlm")

    @property
    def backend(self) -> DlmBackend:
        """The policies of the caller's region."""
        backend: DlmBackend = dlm_backends[self.current_account][self.region]
        return backend

    def create_lifecycle_policy(self) -> ActionResult:
        """CreateLifecyclePolicy."""
        policy_id = f"policy-{mock_random.get_random_hex(17)}"
        account = f"{self.region}:{self.current_account}"
        now = datetime.now(UTC)
        policy: Policy = json.loads(self.body) | {
            "PolicyId": policy_id,
            "PolicyArn": f"arn:{self.partition}:dlm:{account}:policy/{policy_id}",
            "DateCreated": now,
            "DateModified": now,
        }
        self.backend.policies[policy_id] = _completed(policy)
        return ActionResult({"PolicyId": policy_id})

    def get_lifecycle_policy(self) -> ActionResult:
        """GetLifecyclePolicy."""
        return ActionResult({"Policy": self._policy()})

    def get_lifecycle_policies(self) -> ActionResult:
        """GetLifecyclePolicies, without its filters."""
        summaries = [
            {**policy, "PolicyType": policy["PolicyDetails"]["PolicyType"]}
            for policy in self.backend.policies.values()
        ]
        return ActionResult({"Policies": summaries})

    def update_lifecycle_policy(self) -> ActionResult:
        """UpdateLifecyclePolicy."""
        changes = json.loads(self.body)
        policy = self._policy()
        for name in _CHANGEABLE:
            if name in changes:
                policy[name] = changes[name]
        policy["DateModified"] = datetime.now(UTC)
        self.backend.policies[policy["PolicyId"]] = _completed(policy)
        return EmptyResult()

    def delete_lifecycle_policy(self) -> ActionResult:
        """DeleteLifecyclePolicy."""
        del self.backend.policies[self._policy()["PolicyId"]]
        return EmptyResult()

    def list_tags_for_resource(self) -> ActionResult:
        """ListTagsForResource."""
        return ActionResult({"Tags": self._policy().get("Tags", {})})

    def tag_resource(self) -> ActionResult:
        """TagResource."""
        self._policy().setdefault("Tags", {}).update(json.loads(self.body)["Tags"])
        return EmptyResult()

    def untag_resource(self) -> ActionResult:
        """UntagResource."""
        for key in self.querystring.get("tagKeys", []):
            self._policy().get("Tags", {}).pop(key, None)
        return EmptyResult()

    def _policy(self) -> Policy:
        # The path ends in the id, whether it names the policy or its ARN.
        return self.backend.policy(unquote(self.path).rpartition("/")[2])


def _completed(policy: Policy) -> Policy:
    policy = deepcopy(policy)
    policy["PolicyDetails"] = _DETAILS | policy["PolicyDetails"]
    return policy


# moto reads these: the addresses of the service, and their handlers.
url_bases = [r"https?://dlm\.(.+)\.amazonaws\.com"]
url_paths = {
    "{0}/policies$": DlmResponse.dispatch,
    "{0}/policies/(?P<policy_id>[^/]+)$": DlmResponse.dispatch,
    "{0}/tags/(?P<arn>.+)$": DlmResponse.dispatch,
}
dlm_backends = BackendDict(DlmBackend, "dlm")
