"""AWS on one machine: moto with its gaps closed, its state on disk, its callers authenticated."""
