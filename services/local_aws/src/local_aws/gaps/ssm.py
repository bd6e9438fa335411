"""Gaps of moto's Systems Manager."""

from moto.ssm.models import Parameter, ParameterDict

from . import debian

_PUBLISHED = 1788220800.0  # 2026-09-01, a Unix time


def publish_the_debian_parameter() -> None:
    """`/aws/service/debian/release/13/latest/amd64` is the id of the Debian image.

    moto/ssm/models.py: `ParameterDict._check_loading_status` loads Amazon's parameters only,
    and nobody may put a parameter under /aws.
    """
    original = ParameterDict._check_loading_status

    def check_loading_status(self: ParameterDict, key: str) -> None:
        original(self, key)
        name = debian.PARAMETER
        if name.startswith(str(key or "?")) and not dict.__contains__(self, name):
            parameter = Parameter(
                account_id=self.account_id,
                name=name,
                value=debian.image_id(),
                parameter_type="String",
                description=None,
                allowed_pattern=None,
                keyid=None,
                last_modified_date=_PUBLISHED,
                version=1,
                data_type="aws:ec2:image",
            )
            dict.__setitem__(self, name, [parameter])

    ParameterDict._check_loading_status = check_loading_status
