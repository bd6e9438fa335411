"""The ways in to the hosts: a key for some hours, SSH inside Session Manager, a tunnel."""
