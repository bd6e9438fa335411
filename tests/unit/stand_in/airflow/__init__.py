"""The part of Airflow that ansible/playbooks/files/check_dags.py uses."""
