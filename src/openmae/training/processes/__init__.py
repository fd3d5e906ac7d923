"""Several processes that train together: started, joined, watched, stopped."""
