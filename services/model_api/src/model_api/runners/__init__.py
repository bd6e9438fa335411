"""The process that starts, watches and replaces the runners of a host."""
