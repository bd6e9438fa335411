"""The training pipelines that Lastro's DAGs call.

``steps`` has one function per task. Each takes and returns plain JSON values and finds everything
else in MLflow. A step may be retried: the result is the same as after one run.
"""
