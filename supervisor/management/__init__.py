"""What people ask for: changes of agents, dead letters."""
