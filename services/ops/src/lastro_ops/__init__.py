"""The operator's tools: what the make targets run on the controller.

`lastro-ops --help` lists the commands. Each command is a module with two functions: `add_arguments`
declares the command's arguments, and `run` executes it.
"""
