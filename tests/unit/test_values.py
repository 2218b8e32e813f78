"""records, urls, settings, keys: what can be tested without a server."""

import dataclasses
import re
import typing
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncwb import ConfigurationError, DecodeError, InvalidKey, Record, Settings
from asyncwb.core.userkeys import raw_key
from asyncwb.protocol.body import put_prefix
from asyncwb.protocol.keys import PartitionKeys, partition_of
from asyncwb.protocol.wire import pack_version, unpack_record, unpack_version
from asyncwb.records import MAX_EPOCH, MAX_SEQ, epoch_of, make_version
from asyncwb.settings import SettingOptions
from asyncwb.support.redaction import redact


@given(st.integers(0, MAX_EPOCH), st.integers(0, MAX_SEQ), st.integers(0, MAX_EPOCH), st.integers(0, MAX_SEQ))
def test_versions_are_ordered_by_epoch_then_sequence(epoch: int, seq: int, epoch2: int, seq2: int) -> None:
    one, two = make_version(epoch, seq), make_version(epoch2, seq2)
    assert (one < two) == ((epoch, seq) < (epoch2, seq2))
    assert (epoch_of(one), unpack_version(pack_version(one))) == (epoch, one)
    assert one < 2**63


@given(st.integers(1, MAX_EPOCH), st.integers(0, MAX_SEQ), st.binary(), st.sampled_from(["json", "msgpack", "bytes"]))
def test_records_survive_the_wire(epoch: int, seq: int, payload: bytes, codec: Any) -> None:
    version = make_version(epoch, seq)
    packed = pack_version(version) + bytes(8) + put_prefix(codec) + payload
    assert unpack_record("k", packed) == Record("k", version, payload, codec=codec)


@given(st.binary(max_size=40).filter(lambda packed: packed[16:17] not in (b"p", b"d")))
def test_other_bytes_are_no_record(packed: bytes) -> None:
    with pytest.raises(DecodeError, match="not written by asyncwb"):
        unpack_record("k", packed)


def test_record_decodes_its_value_once() -> None:
    record = Record("k", 1, b'{"a":[1]}')
    assert record.value is record.value
    assert Record("k", 1, b"\x01", codec="msgpack").value == 1
    assert Record("k", 1, b"x", codec="bytes").value == b"x"
    assert Record("k", 1, deleted=True).value is None


def test_record_shows_no_payload() -> None:
    record = Record("k", make_version(2, 7), b'"secret"')
    assert repr(record) == "Record('k', 2.7, json, 8 bytes)"
    assert repr(Record("k", 1, deleted=True)) == "Record('k', 0.1, deleted)"
    assert record != "k"
    assert len({record, Record("k", make_version(2, 7), b'"secret"')}) == 1


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://user:pa:ss@h:1/0", "redis://***@h:1/0"),
        ("redis://:p%40ss@h/0?db=1", "redis://***@h/0?db=1"),
        ("mongodb+srv://u:p@h/db?authToken=x&w=1", "mongodb+srv://***@h/db?authToken=***&w=1"),
        ("sqlite:///a@b.db", "sqlite:///a@b.db"),
        ("redis://h?password=x&db=1#f", "redis://h?password=***&db=1#f"),
        ("no url at all", "no url at all"),
    ],
)
def test_urls_are_shown_without_secrets(url: str, shown: str) -> None:
    assert redact(url) == shown


def test_options_are_the_settings() -> None:
    assert typing.get_type_hints(SettingOptions) == typing.get_type_hints(Settings)
    assert len(dataclasses.fields(Settings)) == len(SettingOptions.__annotations__)


def test_settings_are_frozen_and_documented() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().flushers = 2  # type: ignore[misc]
    assert Settings.__doc__ is not None
    for field in dataclasses.fields(Settings):
        # Python 3.13 strips the indentation.
        assert re.search(rf"^ +{field.name}: ", Settings.__doc__, re.MULTILINE)


def test_setting_that_does_not_exist_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"'flusher'.*flushers"):
        Settings().replace({"flusher": 2})  # type: ignore[typeddict-unknown-key]


@given(st.text(min_size=1, max_size=50).filter(lambda key: key.isprintable()))
def test_keys_of_a_partition_share_one_slot(key: str) -> None:
    keys = PartitionKeys("ns.1", 3, 8)
    for name in (*keys.common, keys.writer("y"), keys.record(key.encode())):
        assert name.startswith(b"{wb:ns.1:3.1}:")


def test_partition_is_the_same_in_every_language() -> None:
    assert partition_of(b"123456789", 2**31) == 0xCBF43926 % 2**31
    assert partition_of(b"anything", 1) == 0


@given(st.text(max_size=2000))
def test_key_is_taken_or_explained(key: str) -> None:
    length = len(key.encode("utf-8", "surrogatepass"))
    if 1 <= length <= 1024 and not any("\ud800" <= character <= "\udfff" for character in key):
        assert raw_key(key).decode() == key
    else:
        with pytest.raises(InvalidKey):
            raw_key(key)
