"""Ways to run one revision. `contract.py` says what each promises; `DRIVERS` names them."""
