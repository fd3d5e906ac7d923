"""`openmae explore`: a page on which patches are hidden and shown by hand."""
