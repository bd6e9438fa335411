"""Terraform: for an environment, for an account, and in a folder alone."""
