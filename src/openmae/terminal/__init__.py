"""A training as people see it on a terminal. The figures come from the training itself, or from the files of one."""
