"""The operator's tools: the commands that the make targets run on the controller.

`lastro-ops --help` lists the commands. Each command is a module with two functions: `add_arguments`
declares the command's arguments, and `run` executes it.
"""
