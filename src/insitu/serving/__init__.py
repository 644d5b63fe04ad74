"""The process inside an image and inside a deployment: loads one model, answers two protocols.

    python -m insitu.serving --model DIR --name NAME [--version V] (--port P [--host H] | --uds PATH)

What was trained is what serves: this package needs the standard library and what
the model's own locked environment holds (numpy, scikit-learn, skops; pandas where
a column isn't a number). Nothing is added to the lock, so there is no web framework
here, and nothing else of Insitu is imported: the folder is copied into an image.

What it promises: a pickle is never loaded; skops types beyond scikit-learn's own
come from the caller, never from the model; request bodies and predictions are
neither written to disk nor logged; errors name columns and rules, not the process's
inside. What it doesn't: TLS and tokens are the endpoint's business.

A request's way, file by file: `http_server` (bytes), `routes` (which answer),
`invocations` or `open_inference` (a protocol's own form), `tables` (columns checked
against `signature`), `scoring` (rows of many requests, one call), `sklearn_model`.
"""
