"""Make a user of Airflow's FAB auth manager, or give it the password and role.

Reads JSON {name, password, role} from the standard input.
"""

import json
import sys

from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder

wanted = json.load(sys.stdin)
with get_application_builder() as application:
    manager = application.sm
    role = manager.find_role(wanted["role"])
    if role is None:
        names = ", ".join(sorted(role.name for role in manager.get_all_roles()))
        sys.exit(f"Airflow has no role {wanted['role']}. Choose one of: {names}")
    user = manager.find_user(wanted["name"])
    if user is None:
        made = manager.add_user(
            username=wanted["name"],
            first_name=wanted["name"],
            last_name="-",
            email=f"{wanted['name']}@localhost",
            role=role,
            password=wanted["password"],
        )
        if not made:
            sys.exit(f"Airflow did not make the user {wanted['name']}; its log says why")
    else:
        user.roles = [role]
        manager.update_user(user)
        manager.reset_password(user.id, wanted["password"])
