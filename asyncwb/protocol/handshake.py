"""The decisions of the epoch handshake, as functions of numbers alone: the model checker makes them by these, too."""


def is_acceptable(epoch: int, *, sound: bool, lowest: int) -> bool:
    """Whether a server's epoch may be learnt as it is.

    Args:
        epoch: in the server's meta.
        sound: whether meta speaks of this server, and the epoch has enough sequence numbers left.
        lowest: the lowest epoch that will do: one that this client has known, or that the backend has allotted since.
    """
    return sound and epoch >= lowest


def can_begin(number: int, *, lowest: int, epoch: int, known: int) -> bool:
    """Whether an epoch may begin with a number that was allotted before; 0 is no number.

    A number that this partition has had already, or a later one, belongs to a history that is over.

    Args:
        number: in hand, perhaps from another partition or an attempt that was overtaken.
        lowest: as in `is_acceptable`.
        epoch: in the server's meta.
        known: the highest epoch that this client knows of the partition.
    """
    return number >= lowest and number > max(epoch, known)


def number_to_allot(*, lowest: int, epoch: int) -> int:
    """What the backend is asked for, at least: a number above every history that is known."""
    return max(lowest, epoch) + 1
