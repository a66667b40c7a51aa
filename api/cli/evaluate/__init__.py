"""The command that evaluates an agent."""
