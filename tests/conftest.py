"""What all tests share: the real parts of tests/services.py."""

pytest_plugins = ["tests.services", "tests.sandbox_rig"]
