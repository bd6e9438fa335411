"""The databases role: each login gets into its own database, encrypted, and nowhere else."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg2
import pytest
from role_tests import STATE

ADDRESS = "10.44.255.5"


class Server:
    """The PostgreSQL server of the tests."""

    def __init__(self, cloud: dict[str, Any]) -> None:
        self.endpoint = cloud["database"]
        self.passwords = {
            "plain": cloud["secrets"]["mlflow_session"],
            "schematic": cloud["secrets"]["airflow_jwt"],
            self.endpoint["user"]: self.endpoint["password"],
        }

    @contextmanager
    def login(self, user: str, database: str, **options: str) -> Iterator[Any]:
        """Connect; the name is checked against the certificate, the address is the network's."""
        settings = {
            "host": self.endpoint["host"],
            "hostaddr": ADDRESS,
            "port": self.endpoint["port"],
            "sslmode": "verify-full",
            "sslrootcert": str(STATE / "database-ca.pem"),
            "password": self.passwords[user],
        } | options
        connection = psycopg2.connect(user=user, dbname=database, **settings)
        connection.autocommit = True
        try:
            with connection.cursor() as cursor:
                yield cursor
        finally:
            connection.close()


@pytest.fixture(scope="module")
def server(cloud: dict[str, Any]) -> Server:
    return Server(cloud)


@pytest.mark.parametrize("name", ["plain", "schematic"])
def test_a_role_logs_in_to_its_own_database_over_tls(server: Server, name: str) -> None:
    with server.login(name, name) as cursor:
        cursor.execute("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
        assert cursor.fetchone() == (True,)
        cursor.execute("CREATE TEMP TABLE t AS SELECT 1")


@pytest.mark.parametrize("name", ["plain", "schematic"])
def test_a_role_owns_its_database_and_is_nothing_more(server: Server, name: str) -> None:
    with server.login(name, name) as cursor:
        cursor.execute(
            "SELECT rolsuper, rolcreatedb, rolcreaterole, rolbypassrls FROM pg_roles"
            " WHERE rolname = current_user"
        )
        assert cursor.fetchone() == (False, False, False, False)
        cursor.execute(
            "SELECT pg_get_userbyid(datdba), pg_encoding_to_char(encoding) FROM pg_database"
            " WHERE datname = current_database()"
        )
        assert cursor.fetchone() == (name, "UTF8")


@pytest.mark.parametrize(("user", "database"), [("plain", "schematic"), ("schematic", "plain")])
def test_a_role_gets_into_no_other_database(server: Server, user: str, database: str) -> None:
    refused = pytest.raises(psycopg2.OperationalError, match="permission denied for database")
    with refused, server.login(user, database):
        pass


def test_the_schema_is_where_tables_go(server: Server) -> None:
    with server.login("schematic", "schematic") as cursor:
        cursor.execute("CREATE TABLE here (id int)")
        cursor.execute("SELECT schemaname FROM pg_tables WHERE tablename = 'here'")
        assert cursor.fetchone() == ("own",)
        cursor.execute("DROP TABLE here")


def test_the_master_is_no_superuser(server: Server) -> None:
    with server.login(server.endpoint["user"], "postgres") as cursor:
        cursor.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
        assert cursor.fetchone() == (False,)


def test_a_wrong_password_is_refused(server: Server) -> None:
    refused = pytest.raises(psycopg2.OperationalError, match="password authentication failed")
    with refused, server.login("plain", "plain", password="wrong"):
        pass


def test_a_connection_without_tls_is_refused(server: Server) -> None:
    refused = pytest.raises(psycopg2.OperationalError, match="no encryption")
    with refused, server.login("plain", "plain", sslmode="disable"):
        pass


def test_the_certificate_is_checked(server: Server) -> None:
    refused = pytest.raises(psycopg2.OperationalError, match="certificate verify failed")
    with refused, server.login("plain", "plain", sslrootcert="/etc/ssl/certs/ca-certificates.crt"):
        pass
