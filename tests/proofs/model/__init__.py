"""A model checker of asyncwb's protocol, in plain Python: every interleaving of small configurations, and mutants.

`uv run python -m tests.proofs.model` lists configurations and mutants; with a name it runs one and prints the shortest
way to a violation. The files, from the Lua outwards:

- `states.py`: what a state is, and how its parts are printed.
- `scripts/`: asyncwb/protocol/lua, each script a pure function of the server's state.
- `records.py`: the decisions about records with entries and about conditional writes; RULES.md has them in words.
- `writers.py`, `conditions.py`, `folding.py`, `flushers.py`, `updating.py`, `stale.py`, `readers.py`, `epochs.py`,
  `world.py`: the steps of everybody around it.
- `invariants.py`, `contents.py`: I1 to I7 and what follows from them. `checker.py`: breadth-first search.
- `configurations.py`: what is explored. `mutants.py`: the sentences of the design, dropped one at a time.

What the model abstracts from, and why that hides nothing:

- Time. A lease may expire at any moment, what is dirty may be due or not, a flusher may be frozen between any two of
  its steps: every order of events that clocks allow is among those explored, and many that they don't.
- Contents. A record is its version, which says also whether it is a delete: versions are unique, and that is checked.
  A content that was updated is the versions that made it; what an operation does to a value, the model doesn't know,
  but that some can't be applied.
- Batches of writes. A put holds one write; a script is atomic, so that a batch is several puts without a step between.
- Bounds in records, bytes and age, attempts and their back-off: a failure may be retried or dead-lettered at any time,
  but for the configurations that count attempts.
- `master_replid` is a number that is new at every promotion and start without data.
- A connection that is cut is a lost request or a lost reply; a request whose sender gave it up may still arrive, at any
  later moment, at any server that is alive.
- Where two requests of a writer are under way, every name that it goes by is told apart; with one at a time, one name
  stands for all (`writers.fresh`).
- A former primary that comes back takes no put, get or flush of its own epoch before a client has compared its epoch
  with the backend's: docs/failures.md says that this gap is open.
- Foreign versions, which somebody has copied into the backend, are planted only where it holds nothing, over keys with
  an unsaved record: over a saved write they would destroy that from outside. Their epochs are far enough above what was
  allotted then that nobody is allotted one of them, unless it is to begin above them.
- Flushers that meet them share the known epoch and the handshake of a client process. The lock of that process is
  modelled as no more than that one handshake runs at a time; each restamp has an epoch of its own, where the code may
  use one again. With the transaction what a save has met isn't looked at: what follows from a look is the same. Nor
  are foreign versions combined with dead letters or with write-through. With updates a look is one step, and what it
  comes to is a dead letter; there nothing is put over a foreign version.
- Updates and failovers aren't combined with dropped dead letters: a failover may bring back what was dropped.
- Tombstones are never purged: flushers are frozen for less than the stated time.
"""
