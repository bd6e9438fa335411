"""Gaps of moto's RDS."""

import json
import secrets
import string
from collections.abc import Iterable, Mapping

from moto.rds.models import DBInstance, DBParameterGroup, MasterUserSecret

# https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/UsingWithRDS.SSL.html
DEFAULT_CA = "rds-ca-rsa2048-g1"
PASSWORD_LENGTH = 28
_INSIGHTS = ("retention_period", "kms_key_id")


def report_parameter_sources() -> None:
    """A parameter that was set says so (`Source: user`).

    moto/rds/models.py: `DBParameterGroup.update_parameters` leaves the source out, and
    Terraform, which reads user parameters only, sets them again on every apply.
    """

    def update_parameters(
        self: DBParameterGroup, new_parameters: Iterable[Mapping[str, str]]
    ) -> None:
        for new in new_parameters:
            self.parameters[new["ParameterName"]].update(new, Source="user")

    DBParameterGroup.update_parameters = update_parameters


def name_the_certificate_authority() -> None:
    """A new instance has the certificate authority that RDS gives by default.

    moto/rds/models.py: `DBInstance` says `rds-ca-default`, which no CA is called, and Terraform
    modifies the instance once more, for another 80 seconds.
    """
    create = DBInstance.__init__

    def __init__(self: DBInstance, *args: object, **kwargs: object) -> None:
        kwargs.setdefault("ca_certificate_identifier", DEFAULT_CA)
        create(self, *args, **kwargs)

    DBInstance.__init__ = __init__


def tell_instances_apart() -> None:
    """Every instance has a resource id of its own, by which Terraform looks for it.

    moto/rds/models.py: `DBInstance` gives all of them the same `dbi_resource_id`.
    """
    create = DBInstance.__init__

    def __init__(self: DBInstance, *args: object, **kwargs: object) -> None:
        create(self, *args, **kwargs)
        self.dbi_resource_id = f"db-{secrets.token_hex(13).upper()}"

    DBInstance.__init__ = __init__


def report_performance_insights() -> None:
    """An instance shows whether Performance Insights is on, after creation and modification.

    moto/rds/models.py: `DBInstance` drops the request's `EnablePerformanceInsights`.
    """
    create, update = DBInstance.__init__, DBInstance.update

    def note(instance: DBInstance, options: Mapping[str, object]) -> None:
        if "enable_performance_insights" in options:
            instance.performance_insights_enabled = bool(options["enable_performance_insights"])
        for name in _INSIGHTS:
            if (value := options.get(f"performance_insights_{name}")) is not None:
                setattr(instance, f"performance_insights_{name}", value)

    def __init__(self: DBInstance, *args: object, **kwargs: object) -> None:
        self.performance_insights_enabled = False
        note(self, kwargs)
        create(self, *args, **kwargs)

    def update_instance(self: DBInstance, **kwargs: object) -> None:
        note(self, kwargs)
        update(self, **kwargs)

    DBInstance.__init__ = __init__
    DBInstance.update = update_instance


def generate_master_secrets() -> None:
    """The managed master secret has the instance's master user and a password of its own.

    moto/rds/models.py: `MasterUserSecret._generate_secret_string` always gives the same two, and
    `DBInstance.update` makes a new secret where the password was managed already.
    """
    update = DBInstance.update

    def update_instance(
        self: DBInstance, manage_master_user_password: bool | None = None, **kwargs: object
    ) -> None:
        if manage_master_user_password and hasattr(self, "master_user_secret"):
            manage_master_user_password = None
        update(self, manage_master_user_password=manage_master_user_password, **kwargs)

    def generate(self: MasterUserSecret) -> str:
        alphabet = string.ascii_letters + string.digits
        password = "".join(secrets.choice(alphabet) for _ in range(PASSWORD_LENGTH))
        return json.dumps({"username": self.resource.master_username, "password": password})

    DBInstance.update = update_instance
    MasterUserSecret._generate_secret_string = generate
