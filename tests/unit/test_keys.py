"""The names of keys: partitions are spread over a cluster by their hash tags, which belong to the layout."""

import fnmatch
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.crc import key_slot

from asyncwb.protocol.keys import PartitionKeys, hash_tag, namespace_key, patterns_of, possible_metas, slot_of
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


@given(NAMESPACES, st.integers(0, 7), st.binary(max_size=20))
def test_every_key_of_a_partition_has_the_slot_of_its_tag(namespace: str, partition: int, key: bytes) -> None:
    keys, slot = PartitionKeys(namespace, partition, 8), slot_of(hash_tag(namespace, partition, 8))
    for name in (*keys.once, keys.writer("w"), keys.record(key)):
        assert key_slot(name) == slot


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
def test_partition_that_does_not_exist_has_no_keys(partition: int, partitions: int) -> None:
    with pytest.raises(ValueError, match=f"there is no partition {partition} of {partitions}"):
        PartitionKeys("users", partition, partitions)


@given(NAMESPACES, st.integers(1, MOST_PARTITIONS))
def test_meta_of_the_first_partition_is_found_whatever_the_number_of_partitions(
    namespace: str, partitions: int
) -> None:
    metas = possible_metas(namespace)
    assert PartitionKeys(namespace, 0, partitions).meta in metas
    assert len(set(metas)) == len(metas) < 40


@given(NAMESPACES, NAMESPACES)
def test_patterns_match_all_keys_of_a_namespace_and_no_others(namespace: str, other: str) -> None:
    def matched(name: bytes) -> bool:
        return any(fnmatch.fnmatchcase(name.decode(), pattern) for pattern in patterns_of(namespace))

    for partition in range(3):
        for name in PartitionKeys(other, partition, 3).once:
            assert matched(name) == (namespace == other)
    assert matched(namespace_key(other)) == (namespace == other)
    assert matched(namespace_key(namespace))
    assert matched(PartitionKeys(namespace, 0, 1).meta)
