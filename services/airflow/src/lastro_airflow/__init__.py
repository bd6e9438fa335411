"""What Lastro adds to Airflow's own environment."""
