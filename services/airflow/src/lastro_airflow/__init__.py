"""Lastro's additions to Airflow's own environment."""
