-- @include keys
-- @include chunks
-- @include header
-- @include pending
-- @include records
-- @include try

local SHORT = 512  -- bytes: records up to this length are read and written anew, longer ones are appended to

-- What each key has now: key -> version, kind, time of the first unsaved write (ms, 8 bytes), length of its record, and
-- all of it if it is short; false without one. Of what another program has put there, only the length is known.
-- largest: the length of the largest record, as far as is known
local function look_closely(keys, largest)
  local records = {}
  local function note(key, text, length)
    if text == '' then
      records[key] = false
    elseif #text < HEADER then
      records[key] = {version = NEVER, kind = '?', length = length}
    else
      records[key] = {
        version = string.sub(text, 1, 8), since = string.sub(text, 9, 16), kind = string.sub(text, 17, 17),
        length = length, text = length <= SHORT and text or nil,
      }
    end
  end

  if largest <= SHORT then
    for i = 1, #keys, CHUNK do
      local stop = math.min(i + CHUNK - 1, #keys)
      local texts = read_records(keys, i, stop)
      for j = i, stop do
        local text = texts[j - i + 1] or ''
        note(keys[j], text, #text)
      end
    end
    return records
  end
  for i = 1, #keys do
    if records[keys[i]] == nil then
      local name = PREFIX .. keys[i]
      -- Another program's data has no length.
      local text = try('GETRANGE', name, 0, SHORT) or ''
      note(keys[i], text, #text <= SHORT and #text or redis.call('STRLEN', name))
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
    if added[key] then
      added[key] = added[key] .. entry
      return
    end
    local there = whole[key]
    if not there and record then
      if record.kind == 'u' and record.length >= ENTRIES - 1 then
        if not record.text or record.length + #entry > SHORT then
          added[key] = entry
          return
        end
        there = NEVER .. (leased[key] and now or record.since) .. string.sub(record.text, 17)
      elseif record.kind == 'p' or record.kind == 'd' then
        there = record.text or redis.call('GET', PREFIX .. key)
      end
    end
    if not there then
      whole[key] = version .. since_of(key) .. 'u' .. string.sub(body, 2, 2) .. first .. WITHOUT_BASE .. entry
    elseif is_pending(there) then
      whole[key] = version .. string.sub(there, 9) .. entry
    else
      local base, kind = string.sub(there, 1, 8), string.sub(there, 17, 17)
      -- A tombstone has no codec of its own, so the update's counts.
      local codec = kind == 'd' and string.sub(body, 2, 2) or string.sub(there, 18, 18)
      whole[key] = pending_of(version, since_of(key), codec, base, NEVER, base, kind,
        string.sub(there, HEADER + 1), entry)
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
