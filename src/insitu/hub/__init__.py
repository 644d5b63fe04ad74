"""The control plane: schedules, records what was released, and holds no data of a site."""
