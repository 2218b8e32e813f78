-- @include header
-- A record with updates that aren't saved yet has kind 'u', and behind its header:
--   origin (8): the version of the oldest content in it; it stays while updates are added, so failures go by it
--   note (8): a flusher may have read what is in it up to this version; writers fold only entries behind it
--   base: version (8), kind (1; 'p', 'd', or '?': unknown, the backend has it), length (4), payload
--   entries: the first and the last version of the updates in it (8 each; the same, unless several were folded),
--   length (4), payload
-- Keep in step with asyncwb/protocol/pending.py.
local BASE = HEADER + 17            -- where the base begins
local ENTRIES = BASE + 13           -- where entries begin, if the base has no payload
local ENTRY = 20                    -- bytes of an entry before its payload
local NEVER = string.rep('\0', 8)   -- no version
local WITHOUT_BASE = NEVER .. NEVER .. '?' .. string.rep('\0', 4)  -- the note and the base of a record that has no base

local function is_pending(record)
  return #record >= ENTRIES - 1 and string.sub(record, HEADER - 1, HEADER - 1) == 'u'
end

-- An entry of a single update, or of updates that were folded.
local function entry_of(first, last, payload)
  return first .. last .. struct.pack('>I4', #payload) .. payload
end

-- A record of this base and these entries.
local function pending_of(version, since, codec, origin, note, base_version, base_kind, base, entries)
  return version .. since .. 'u' .. codec .. origin .. note .. base_version .. base_kind
    .. struct.pack('>I4', #base) .. base .. entries
end

-- The base of a pending record and where its entries begin; nil if another program has damaged it.
local function base_of(record)
  local length = struct.unpack('>I4', record, BASE + 9)
  local entries = ENTRIES + length
  if entries > #record + 1 then return nil end
  return {
    version = string.sub(record, BASE, BASE + 7), kind = string.sub(record, BASE + 8, BASE + 8),
    payload = string.sub(record, ENTRIES, entries - 1), entries = entries,
  }
end

-- Calls `visit` with the first and the last version, the payload and the place of each entry, from the one at `at` on,
-- until it returns true. Returns whether all is sound: another program may have damaged the record.
local function each_entry(record, at, visit)
  while at <= #record do
    if at + ENTRY - 1 > #record then return false end
    local length = struct.unpack('>I4', record, at + 16)
    local stop = at + ENTRY + length
    if stop > #record + 1 then return false end
    if visit(string.sub(record, at, at + 7), string.sub(record, at + 8, at + 15),
      string.sub(record, at + ENTRY, stop - 1), at) then return true end
    at = stop
  end
  return true
end
