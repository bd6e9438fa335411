"""Gaps of the code that all of moto's services share."""

import os

from moto.core.common_models import BaseModel
from moto.ec2.models.instances import Instance

from ..tracking import ACCOUNT_ID


def serve_one_account() -> None:
    """Everything happens in one account.

    moto/core/responses.py: `BaseResponse.get_current_account` lets a header choose another, and
    otherwise looks for the caller's key in every partition's IAM.
    """
    os.environ["MOTO_ACCOUNT_ID"] = ACCOUNT_ID


def forget_what_is_gone() -> None:
    """Deleted and overwritten resources are removed from memory.

    moto/core/common_models.py: `BaseModel.__new__` lists every object ever made, for moto's own
    API. `Instance.__del__` (moto/ec2/models/instances.py) never ran because of it, and must not:
    it would free addresses that `terminate` has freed and a new instance may have by now.
    """

    def new(cls: type[BaseModel], *args: object, **kwargs: object) -> BaseModel:
        return object.__new__(cls)

    BaseModel.__new__ = new
    Instance.__del__ = lambda self: None
