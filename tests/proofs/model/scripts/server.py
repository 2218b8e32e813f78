"""What all scripts do alike."""

from tests.proofs.model.states import Key, Server


def with_keys(server: Server, keys: tuple[Key, ...], claims: tuple[int, ...]) -> Server:
    identity, meta, epoch, seq, returned, _, _, memory, foreign, mode, dropped = server
    return Server(identity, meta, epoch, seq, returned, keys, claims, memory, foreign, mode, dropped)
