"""What happens unasked: placing, recording, building, noticing who is away."""
