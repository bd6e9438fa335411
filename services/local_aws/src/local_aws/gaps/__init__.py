"""The gaps of moto 5.2.5 that Terraform and boto3 run into: one function per gap.

Each function changes moto in place and names the upstream code that it fixes, so that a new version
of moto can be checked against it. `close_all` is called once, before the first request.
"""

from ..sessions import Sessions
from . import budgets, core, dlm, ec2, iam, rds, s3, ssm, sts


def close_all(sessions: Sessions) -> None:
    """Close every gap."""
    budgets.keep_tags()
    budgets.update_budgets()
    budgets.report_subscribers()
    core.serve_one_account()
    core.forget_what_is_gone()
    dlm.serve_lifecycle_policies()
    ec2.offer_the_debian_image()
    ec2.show_security_groups_of_the_network_interface()
    ec2.leave_out_the_empty_association()
    ec2.free_addresses_on_termination()
    ec2.choose_addresses_that_are_free()
    ec2.monitor_instances()
    ec2.describe_rules_that_reference_a_group()
    ec2.keep_credit_specifications()
    iam.offer_managed_policies()
    iam.forget_when_keys_were_used()
    rds.report_parameter_sources()
    rds.name_the_certificate_authority()
    rds.tell_instances_apart()
    rds.report_performance_insights()
    rds.generate_master_secrets()
    s3.use_path_style_only()
    s3.accept_any_principal_in_log_target_policies()
    s3.deliver_no_access_logs()
    s3.treat_requests_as_tls()
    s3.recompute_checksums_of_copies()
    s3.show_how_many_old_versions_are_kept()
    s3.let_go_of_delete_markers()
    s3.escape_keys_of_versions()
    ssm.publish_the_debian_parameter()
    ssm.run_commands()
    ssm.list_command_invocations()
    ssm.describe_instances_with_an_agent()
    sts.issue_sessions(sessions)
