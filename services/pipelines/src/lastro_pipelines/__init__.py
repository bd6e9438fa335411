"""The training pipelines that Lastro's DAGs call.

``steps`` holds one function per task. Each takes and returns plain JSON values, finds everything
else in MLflow, and may be run again: a retried step ends in the state that one run of it leaves.
"""
