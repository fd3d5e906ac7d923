"""How a checkpoint is saved: how long the training waits for it, and how much is checked."""

from enum import Enum


class SaveMode(Enum):
    """Three occasions to save. The files that they write are the same to the byte.

    | mode | the training waits for | read back, older ones deleted | when the disk refuses |
    |---|---|---|---|
    | BACKGROUND | a copy in memory | yes | reported; tried again a minute later |
    | WAITED | the files | yes | the run ends |
    | BEFORE_EXIT | the files | no | the run ends |
    """

    BACKGROUND = "background"
    """Now and then: written beside the training, from a copy. A request to stop makes the writer give it up, because a
    later step will be saved before the exit."""

    WAITED = "waited"
    """The first weights and the last step: the run goes on only when they are safe."""

    BEFORE_EXIT = "before exit"
    """After a request to stop, which leaves little time. A checkpoint that is being written is given up. This one is
    synced, but not read back: the process that continues from it verifies it anyway, and the older ones stay for the
    case that it finds damage."""
