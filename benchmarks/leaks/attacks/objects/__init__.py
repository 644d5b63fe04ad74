"""Models and tables that hold rows by construction."""
