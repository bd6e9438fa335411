"""The runner: a process in a sandbox that loads one version and answers for it."""
