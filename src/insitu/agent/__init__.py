"""The process beside the data. It dials out and never listens on a network.

A job's way through a site, in the order of the files:

    hub_link    what the hub says should be            accept     may it run here? signature, policy, grants
    workspace   code, folders, freezing                environments  packages from a cache
    catalogue   datasets by name                       attempts   one attempt from accepted to over
    judging     outputs → decisions                    releases   ledger, then sent; held ones wait for a steward
    stream      events: journal, ledger, hub           ledger     what left, written first
    deployments what should be served here             console    the steward's socket
"""
