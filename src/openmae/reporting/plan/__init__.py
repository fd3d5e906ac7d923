"""`openmae plan`: a pre-training before it is run."""
