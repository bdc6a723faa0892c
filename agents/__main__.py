"""python -m agents: the same as urban-brain."""

from agents.cli import main

main()
