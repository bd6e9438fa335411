"""Gaps of moto's Budgets."""

from collections.abc import Mapping

from moto.budgets.exceptions import NotFoundException
from moto.budgets.models import Budget
from moto.budgets.responses import BudgetsResponse
from moto.core.responses import ActionResult, EmptyResult


def keep_tags() -> None:
    """A budget has the tags it was made with, or was given later.

    moto/budgets/responses.py: `BudgetsResponse.create_budget` drops them, and the three calls
    that read and change tags are missing, so that Terraform can neither read nor destroy one.
    """
    create = BudgetsResponse.create_budget

    def create_budget(self: BudgetsResponse) -> str:
        answer: str = create(self)
        budget = _budget(self, self._get_param("Budget")["BudgetName"])
        budget.tags = _by_key(self._get_param("ResourceTags") or [])
        return answer

    def list_tags_for_resource(self: BudgetsResponse) -> ActionResult:
        tags = _tagged(self).tags
        return ActionResult({"ResourceTags": [{"Key": k, "Value": v} for k, v in tags.items()]})

    def tag_resource(self: BudgetsResponse) -> ActionResult:
        _tagged(self).tags |= _by_key(self._get_param("ResourceTags"))
        return EmptyResult()

    def untag_resource(self: BudgetsResponse) -> ActionResult:
        for key in self._get_param("ResourceTagKeys"):
            _tagged(self).tags.pop(key, None)
        return EmptyResult()

    BudgetsResponse.create_budget = create_budget
    BudgetsResponse.list_tags_for_resource = list_tags_for_resource
    BudgetsResponse.tag_resource = tag_resource
    BudgetsResponse.untag_resource = untag_resource


def update_budgets() -> None:
    """A budget can be changed.

    moto/budgets/responses.py: `UpdateBudget` is missing.
    """

    def update_budget(self: BudgetsResponse) -> ActionResult:
        new = self._get_param("NewBudget")
        budget = _budget(self, new["BudgetName"])
        budget.budget = {"TimePeriod": budget.budget["TimePeriod"], **new}
        return EmptyResult()

    BudgetsResponse.update_budget = update_budget


def report_subscribers() -> None:
    """A notification has the subscribers it was made with.

    moto/budgets/responses.py: `DescribeSubscribersForNotification` is missing.
    """

    def describe_subscribers_for_notification(self: BudgetsResponse) -> ActionResult:
        name, wanted = self._get_param("BudgetName"), self._get_param("Notification")
        for notification in _budget(self, name).notifications:
            if notification.details.items() >= _identity(wanted).items():
                return ActionResult({"Subscribers": notification.subscribers})
        raise NotFoundException(f"Unable to get subscribers: {name} has no such notification.")

    BudgetsResponse.describe_subscribers_for_notification = describe_subscribers_for_notification


def _budget(response: BudgetsResponse, name: str) -> Budget:
    budgets = response.backend.budgets[response._get_param("AccountId") or response.current_account]
    if name not in budgets:
        raise NotFoundException(f"Unable to get budget: {name} - the budget doesn't exist.")
    return budgets[name]


def _tagged(response: BudgetsResponse) -> Budget:
    return _budget(response, response._get_param("ResourceARN").rpartition(":budget/")[2])


def _by_key(tags: list[dict[str, str]]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in tags}


def _identity(notification: Mapping[str, object]) -> dict[str, object]:
    """The members that identify a notification of a budget; the others are its state."""
    names = ("NotificationType", "ComparisonOperator", "Threshold")
    return {name: notification[name] for name in names}
