"""Serializes anything but one text."""

from __future__ import annotations


class LazyDeserializedDAG:
    """As Airflow's, of which one method is called."""

    @staticmethod
    def from_dag(dag: object) -> None:
        """Raise if the DAG cannot be serialized."""
        if dag == "not serializable":
            raise TypeError("cannot serialize")
