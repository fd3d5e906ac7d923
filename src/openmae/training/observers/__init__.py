"""What a training does beside its steps; observer.py says when each sees it."""
