"""The work of a training around its steps, one subject a file; observer.py says when each part is called."""
