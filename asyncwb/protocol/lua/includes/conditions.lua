-- @include keys
-- @include try
local ABSENT = string.rep('\255', 8)  -- the expected version of a key that has to be absent
local NO_TOKEN = string.rep('\0', 16)
local CONDITION = 24  -- bytes of a condition in the body of a write

-- Which writes of a request may be applied, as far as that depends on what their keys have now. A write with a
-- condition has an upper-case kind, and before its payload the expected version (8 bytes) and a token (16). It is
-- decided here if Redis has a record of this epoch; elsewhere the caller has compared what the backend has, and the
-- token says that the key wasn't written since. An update is refused while its key is dead because one before it can't
-- be applied. keys, bodies: of the request; conditions are taken out of the bodies of the writes that may be applied
-- versions: of the writes   records: key -> its present record, see `look_closely`   epoch: 4 bytes
-- place: where each stands in the request; nil: where it stands in `keys`
-- Returns place -> true for those that may not, the places (from 0) of those that are refused since their key is dead,
-- and of those whose condition isn't met: 'place:version', or 'place:' if only the caller can decide it.
local function judge(keys, bodies, versions, records, epoch, place)
  local out, blocked, unmet, now = {}, {}, {}, {}
  local any_dead = redis.call('HLEN', DEAD) > 0

  -- The version of a key's record if that decides what the key has, and its kind.
  local function present(key)
    if now[key] then return now[key].version, now[key].kind end
    local record = records[key]
    if record and string.sub(record.version, 1, 4) == epoch then return record.version, record.kind end
  end

  local function is_met(key, expected, token)
    local version, kind = present(key)
    if not version then return token ~= NO_TOKEN and try('HGET', TOKENS, key) == epoch .. token, '' end
    if expected ~= ABSENT then return version == expected, version end
    -- What updates lead to is known to the caller only.
    return kind == 'd', kind == 'u' and '' or version
  end

  for i = 1, #keys do
    local key, kind = keys[i], string.sub(bodies[i], 1, 1)
    if kind ~= string.lower(kind) then
      local met, version = is_met(key, string.sub(bodies[i], 3, 10), string.sub(bodies[i], 11, 26))
      if not met then
        out[i] = true
        unmet[#unmet + 1] = (place and place[i] or i) - 1 .. ':'
          .. (version ~= '' and string.format('%08x%08x', struct.unpack('>I4I4', version)) or '')
      end
      kind = string.lower(kind)
      bodies[i] = kind .. string.sub(bodies[i], 2, 2) .. string.sub(bodies[i], 3 + CONDITION)
    end
    if kind == 'u' and any_dead and not now[key] and not out[i] then
      local letter = redis.call('HGET', DEAD, key)
      if letter and string.sub(letter, 29, 29) == 'u' then
        out[i] = true
        blocked[#blocked + 1] = (place and place[i] or i) - 1
      end
    end
    if not out[i] then now[key] = {version = versions[i], kind = kind} end
  end
  return out, blocked, unmet
end
