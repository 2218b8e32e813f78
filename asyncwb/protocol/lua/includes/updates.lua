-- @include keys
-- @include header
-- @include pending
-- @include try

-- What each key has now: key -> version, kind, time of the first unsaved write (ms, 8 bytes), length of its record; nil
-- without one. Of what another program has put there, only the length is known.
local function look_closely(keys)
  local records = {}
  for i = 1, #keys do
    local key = keys[i]
    if records[key] == nil then
      local name = PREFIX .. key
      local head = try('GETRANGE', name, 0, HEADER - 1)
      if head == '' then
        records[key] = false
      elseif not head or #head < HEADER then
        records[key] = {version = NEVER, kind = '?', since = nil, length = head and #head or 0}
      else
        records[key] = {
          version = string.sub(head, 1, 8), since = string.sub(head, 9, 16), kind = string.sub(head, 17, 17),
          length = redis.call('STRLEN', name),
        }
      end
    end
  end
  return records
end

-- What becomes of the records by writes in their order, some of them updates.
-- keys, bodies, firsts, versions: of each write; the first and the last version of the updates in it
-- records: from `look_closely`   leased: the keys that are leased   now: this moment (ms, 8 bytes)
-- Returns key -> a whole new record, key -> what is added to the one that is there, and the version of each.
local function updated(keys, bodies, firsts, versions, records, leased, now)
  local whole, added, newest = {}, {}, {}

  -- While a save of the earlier content runs, a write is the first that it doesn't cover.
  local function since_of(key)
    local record = records[key]
    local since = not leased[key] and record and record.since
    -- Another program may have put a record there with any bytes in this place.
    return since and struct.unpack('>I8', since) < struct.unpack('>I8', now) and since or now
  end

  local function append(key, body, first, version)
    local record = records[key]
    local entry = entry_of(first, version, string.sub(body, 3))
    if added[key] or (not whole[key] and record and record.kind == 'u' and record.length >= ENTRIES - 1) then
      added[key] = (added[key] or '') .. entry
      return
    end
    local there = whole[key] or (record and (record.kind == 'p' or record.kind == 'd') and
      redis.call('GET', PREFIX .. key))
    if there and is_pending(there) then
      whole[key] = version .. string.sub(there, 9) .. entry
    elseif there then
      local base, kind = string.sub(there, 1, 8), string.sub(there, 17, 17)
      -- A tombstone has no codec of its own, so the update's counts.
      local codec = kind == 'd' and string.sub(body, 2, 2) or string.sub(there, 18, 18)
      whole[key] = pending_of(version, since_of(key), codec, base, NEVER, base, kind,
        string.sub(there, HEADER + 1), entry)
    else
      whole[key] = pending_of(version, since_of(key), string.sub(body, 2, 2), first, NEVER, NEVER, '?', '',
        entry)
    end
  end

  for i = 1, #keys do
    local key, body = keys[i], bodies[i]
    newest[key] = versions[i]
    if string.sub(body, 1, 1) == 'u' then
      append(key, body, firsts[i], versions[i])
    else
      whole[key], added[key] = versions[i] .. since_of(key) .. body, nil
    end
  end
  return whole, added, newest
end
