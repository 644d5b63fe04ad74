"""What leaves while a job runs: metrics, params, names, log lines, errors; one account for all of them."""
