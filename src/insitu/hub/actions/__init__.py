"""What somebody may do: `(actor, session, request) -> view`. Who may is asked of `hub.access` first."""
