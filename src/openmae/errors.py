"""The user's mistakes, apart from ours."""


class UserError(ValueError):
    """Wrong input: a flag, a file, a data set. The message says what is wrong, what was found, and what to do.

    The command line shows it as a sentence. Every other exception is a mistake of ours and keeps its traceback. It is a
    ValueError so that Python callers catch it as they catch any argument that a library refuses.
    """


class WrongUsage(UserError):
    """The command itself was not understood. The command line ends with another exit code than for other errors."""


def one_line(error: BaseException) -> str:
    """The message of a library's error, on one line."""
    return " ".join(str(error).split()) or type(error).__name__
