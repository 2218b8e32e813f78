"""The handshake of every client process: hello, allot, install, and a second pass; asyncwb/protocol/epochs.py."""

from typing import Final

from asyncwb.protocol.handshake import can_begin, is_acceptable, number_to_allot
from tests.proofs.model import scripts
from tests.proofs.model.left import CHECKS, LOSSES
from tests.proofs.model.rules import Out, Rules
from tests.proofs.model.states import AGAIN, ALLOT, INSTALL, INSTALL_EPOCH, Client, State, put_at, with_late

LEARNED: Final = "C{0} says hello and learns epoch {1}"
HELLO: Final = "C{0} says hello: server {1}, meta of server {2}, epoch {3}"
ALLOTTED: Final = "C{0} is allotted epoch {1} by the backend"
INSTALLED: Final = "C{0} installs epoch {1} at server {2}"
INSTALL_REFUSED: Final = "C{0} can't install epoch {1}: the server has changed"
INSTALL_LOST: Final = "C{0} installs epoch {1} at server {2}, and the reply is lost"
INSTALL_LATE: Final = "C{0} installs epoch {1}, and the request is delayed"

_SPARE: Final = 1
"""As many numbers as the largest put takes: the handshake and put agree on when a sequence is used up."""


def handshake_steps(state: State, rules: Rules, out: Out) -> None:
    if not rules.handshakes:
        return
    for at, client in enumerate(state.clients):
        if client.doing == ALLOT:
            _allot(state, rules, out, at, client)
        elif client.doing == INSTALL:
            _install(state, rules, out, at, client)
        elif client.doing == AGAIN:
            _hello(state, rules, out, at, client)
        else:
            server, known = state.server, client.known
            used_up = server.seq > rules.configuration.most - _SPARE
            if server.meta != server.identity or server.epoch != known or used_up:
                _hello(state, rules, out, at, Client(known))  # a script has answered EPOCH
            if server.epoch < state.backend.epoch and state.left.checks:
                # Once a second. Were that as often as you like, two clients could outbid each other for ever.
                checked = state.to(left=state.left.without(CHECKS))
                _hello(checked, rules, out, at, Client(known, least=state.backend.epoch))


def _hello(state: State, rules: Rules, out: Out, at: int, client: Client) -> None:
    """What the server says, and whether that epoch will do."""
    server = state.server
    if (
        client.mine
        and client.identity != server.identity
        and "a number is outdated by another server" not in rules.drops
    ):
        client = client._replace(least=max(client.least, state.backend.epoch))
    least = max(client.least, client.before, client.known)
    sound = server.meta == server.identity and server.seq <= rules.configuration.most - _SPARE
    if is_acceptable(server.epoch, sound=sound, lowest=least):
        over = _pass_ends(client._replace(known=max(client.known, server.epoch), identity=server.identity))
        out.append(((LEARNED, at + 1, server.epoch), state.to(clients=put_at(state.clients, at, over))))
        return
    known = client.known if "an epoch is installed once" not in rules.drops else 0
    fresh = not can_begin(client.mine, lowest=least, epoch=server.epoch, known=known)
    seen = Client(
        client.known,
        ALLOT if fresh else INSTALL,
        server.identity,
        server.meta,
        server.epoch,
        client.mine,
        client.before,
        client.least,
    )
    told = (HELLO, at + 1, server.identity, server.meta, server.epoch)
    out.append((told, state.to(clients=put_at(state.clients, at, seen))))


def _allot(state: State, rules: Rules, out: Out, at: int, client: Client) -> None:
    least = number_to_allot(lowest=max(client.least, client.before, client.known), epoch=client.epoch)
    number = max(state.backend.epoch + 1, least)
    if "the backend allots epochs" in rules.drops:
        number = client.epoch + 1
    if "a new history begins a new epoch" in rules.drops:
        number = max(client.epoch, 1)
    allotted = put_at(state.clients, at, client._replace(doing=INSTALL, mine=number))
    backend = state.backend._replace(epoch=max(number, state.backend.epoch))
    out.append(((ALLOTTED, at + 1, number), state.to(clients=allotted, backend=backend)))


def _install(state: State, rules: Rules, out: Out, at: int, client: Client) -> None:
    done, server = scripts.install(state.server, client.identity, client.meta, client.epoch, client.mine, rules.drops)
    number, told = client.mine, (at + 1, client.mine, state.server.identity)
    if done:
        over = _pass_ends(client._replace(known=max(client.known, number)))
        out.append(((INSTALLED, *told), state.to(server=server, clients=put_at(state.clients, at, over))))
    else:
        again = put_at(state.clients, at, client._replace(doing=AGAIN))
        out.append(((INSTALL_REFUSED, *told), state.to(clients=again)))
    if state.left.losses:
        left, failed = state.left.without(LOSSES), put_at(state.clients, at, Client(client.known))
        if done:
            out.append(((INSTALL_LOST, *told), state.to(server=server, clients=failed, left=left)))
        late = with_late(state.late, INSTALL_EPOCH, client.identity, client.meta, client.epoch, number)
        out.append(((INSTALL_LATE, *told), state.to(clients=failed, left=left, late=late)))


def _pass_ends(client: Client) -> Client:
    """The handshake is over after a pass in which no number was allotted."""
    if client.mine == client.before:
        return Client(client.known)
    return Client(client.known, AGAIN, client.identity, mine=client.mine, before=client.mine, least=client.least)
