"""The commands of `urban-brain`, one a module. Each has a `command`."""
