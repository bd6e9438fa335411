"""Of Airflow, what ansible/playbooks/files/check_dags.py asks for."""
