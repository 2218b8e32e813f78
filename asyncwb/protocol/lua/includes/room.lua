-- @include keys
-- @include clock
-- @include conditions
-- @include header
-- @include oldest_since
-- @include pending
-- @include try
local NO_LIMIT = {refused = {}, hopeless = {}}

-- Which groups of a request there is room for. Only writes that add a record, or bytes, are refused. A full buffer
-- stays full until everything is below its low watermark (hysteresis).
-- limits, low: what most of it there may be of records, bytes and age (ms), 0 for no limit, and the low watermarks
-- waiting: whether refused groups wait for room, see put.lua
-- request: keys and bodies of its writes, how many each group has (none: one each), key -> length of its present record
-- bytes: the estimate of the bytes of all records   was_full: whether the buffer was full before
-- Returns place -> true for the refused writes, the refused groups (from 0), those of them for which dead letters alone
-- leave no room, why the first was refused, the number of dead letters, the estimate of bytes without this request, and
-- whether the buffer becomes full by it, or ceases to be.
local function admit(limits, low, waiting, request, bytes, was_full)
  local held = {records = 0, bytes = bytes, age = 0}
  local live, dead = 0, 0
  if limits.records > 0 or limits.bytes > 0 then
    live, dead = redis.call('ZCARD', DIRTY) + redis.call('ZCARD', LEASE), redis.call('HLEN', DEAD)
    held.records = live + dead
    -- Whatever the estimate says: a wrong one would refuse all writes while there is nothing left to save.
    if held.records == 0 then held.bytes = 0 end
  end
  if limits.age > 0 then
    local now = times()
    held.age = now - oldest_since(now, 8, true)
  end
  local bytes_before = held.bytes

  -- How much of a limit dead letters use, until an operator sees to them. Their bytes are estimated from some of them.
  local dead_bytes = nil
  local function held_by_dead(what)
    if dead == 0 or what == 'age' then return 0 end
    if what == 'records' then return dead end
    if live == 0 then return bytes_before end
    if not dead_bytes then
      local size, some = 0, redis.call('HSCAN', DEAD, 0, 'COUNT', 128)[2]
      for i = 1, #some, 2 do size = size + (try('STRLEN', PREFIX .. some[i]) or 0) end
      dead_bytes = #some > 0 and size * dead / (#some / 2) or 0
    end
    return dead_bytes
  end

  -- The limit that is above its low watermark, if any, unless dead letters alone are above it: no save takes them away.
  local function above_low()
    for _, what in ipairs({'records', 'bytes', 'age'}) do
      if limits[what] > 0 and held[what] > low[what] and held[what] > held_by_dead(what) then return what end
    end
  end

  local full = was_full and above_low()

  -- Why there is no room for a group that adds so many records and bytes.
  local function refusal(added, grown)
    if full then return full end
    if added > 0 and limits.records > 0 and held.records + added > limits.records then return 'records' end
    if grown > 0 and limits.bytes > 0 and held.bytes + grown > limits.bytes then return 'bytes' end
    if added > 0 and limits.age > 0 and held.age > limits.age then return 'age' end
  end

  -- Whether there will still be no room for it when all that can be saved has been saved.
  local function is_hopeless(added, grown)
    return dead > 0 and ((added > 0 and limits.records > 0 and dead + added > limits.records)
      or (grown > 0 and limits.bytes > 0 and held_by_dead('bytes') + grown > limits.bytes))
  end

  -- `waits` has the keys of groups that wait for room: a later group that has one of them must not overtake them.
  local in_order, others_wait = waiting ~= 'none', waiting == 'others'
  local out, refused, hopeless, new, waits, at, why = {}, {}, {}, {}, {}, 0, nil
  local keys, bodies, groups, length = request.keys, request.bodies, request.groups, request.length
  for g = 1, #groups > 0 and #groups or #keys do
    local added, grown, fresh, stop = 0, 0, {}, at + (groups[g] or 1)
    local reason = nil
    for i = at + 1, stop do
      local key, before = keys[i], fresh[keys[i]] or new[keys[i]] or length[keys[i]]
      local kind, size = string.sub(bodies[i], 1, 1), #bodies[i] + HEADER - 2
      if kind ~= string.lower(kind) then size = size - CONDITION end
      -- An update is added to what is there.
      if string.lower(kind) == 'u' then size = size - HEADER + ENTRY + (before or ENTRIES - 1) end
      if not before then added = added + 1 end
      grown = grown + size - (before or 0)
      fresh[key] = size
      if waits[key] then reason = why end
    end
    local hopes = true
    if added > 0 or (grown > 0 and limits.bytes > 0) then
      local no_room = refusal(added, grown)
      if no_room and is_hopeless(added, grown) then hopes = false end
      reason = no_room or reason or (others_wait and (why or 'turn'))
    end
    if reason then
      for i = at + 1, stop do out[i] = true end
      refused[#refused + 1] = g - 1
      if why == nil or why == 'turn' then why = reason end
      if not hopes then
        hopeless[#hopeless + 1] = g - 1
      elseif in_order then
        others_wait = true
        for key in pairs(fresh) do waits[key] = true end
      end
    else
      held.records = held.records + added
      held.bytes = held.bytes + grown
      for key, size in pairs(fresh) do new[key] = size end
    end
    at = stop
  end
  return {
    out = out, refused = refused, hopeless = hopeless, why = why, dead = dead, bytes = bytes_before,
    fills = why and why ~= 'turn' and not was_full and above_low(), empties = was_full and not full and not why,
  }
end
