"""The names of keys: partitions are spread over a cluster by their hash tags, which belong to the layout."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot

from asyncwb.protocol.keys import hash_tag, slot_of
from asyncwb.settings import MOST_PARTITIONS

SLOTS = 16384
NAMESPACES = st.from_regex(r"[A-Za-z0-9_.-]{1,64}", fullmatch=True)


@pytest.mark.parametrize(
    ("namespace", "partition", "partitions", "tag"),
    [
        ("users", 0, 1, b"wb:users:0.0"),
        ("users", 0, 2, b"wb:users:0.2"),
        ("users", 1, 2, b"wb:users:1.2"),
        ("users", 2, 3, b"wb:users:2.2"),
        ("ns.1", 3, 8, b"wb:ns.1:3.1"),
        ("users", 0, 1024, b"wb:users:0.67"),
        ("a", 1023, 1024, b"wb:a:1023.177"),
    ],
)
def test_tags_stay_as_they_are(namespace: str, partition: int, partitions: int, tag: bytes) -> None:
    """With another tag, a client would find an empty partition: it takes a new layout to change this."""
    assert hash_tag(namespace, partition, partitions) == tag


@given(NAMESPACES, st.integers(1, MOST_PARTITIONS), st.data())
def test_partition_lies_in_its_own_range_of_slots_with_the_smallest_salt(
    namespace: str, partitions: int, data: st.DataObject
) -> None:
    partition = data.draw(st.integers(0, partitions - 1))
    tag = hash_tag(namespace, partition, partitions)
    start, _, salt = tag.rpartition(b".")
    assert start == f"wb:{namespace}:{partition}".encode()
    slots = [slot_of(b"%s.%d" % (start, each)) for each in range(int(salt) + 1)]
    fitting = range(-(-SLOTS * partition // partitions), -(-SLOTS * (partition + 1) // partitions))
    assert [slot in fitting for slot in slots] == [False] * int(salt) + [True]


@given(NAMESPACES, st.integers(0, 7))
def test_slot_of_a_tag_is_that_of_the_server(namespace: str, partition: int) -> None:
    tag = hash_tag(namespace, partition, 8)
    assert key_slot(b"{%s}:rec:x" % tag) == slot_of(tag)


@pytest.mark.parametrize("partitions", [1, 2, 3, 5, 12, 16, 100, MOST_PARTITIONS])
@pytest.mark.parametrize("nodes", [1, 2, 3, 4, 6, 7, 10])
def test_partitions_are_spread_evenly_over_any_number_of_nodes(partitions: int, nodes: int) -> None:
    """At each border between nodes, only the partition whose range it cuts may fall on either side."""
    tags = [hash_tag("users", partition, partitions) for partition in range(partitions)]
    held = Counter(slot_of(tag) * nodes // SLOTS for tag in tags)
    counts = [held[node] for node in range(nodes)]
    if partitions % nodes == 0:
        assert set(counts) == {partitions // nodes}
    assert max(counts) - min(counts) <= 2


@pytest.mark.parametrize(("partition", "partitions"), [(1, 1), (-1, 1), (8, 8)])
def test_partition_that_does_not_exist_has_no_tag(partition: int, partitions: int) -> None:
    with pytest.raises(ValueError, match=f"there is no partition {partition} of {partitions}"):
        hash_tag("users", partition, partitions)
