-- put: applies one request of a writer, once. A request holds groups (one per caller), a group holds writes.
-- KEYS  10 writer
-- ARGV  2 epoch  3 request number  4 '1' if an earlier attempt may have been applied  5 ms to remember the writer
--       6 ms until a write is due
--       7 most records  8 low watermark of them  9 most bytes  10 low  11 longest age (ms)  12 low (0: no such limit)
--       13 whether refused groups wait for room: 'none'; 'wait': once a group is refused, so is every later one that
--       needs room or shares a key with it; 'others': as if a group had been refused before all of these
--       14 the request of this writer that has to be applied first, 0 for none: it was sent, but not yet answered
--       15 number of groups  16… size of each group; 0 and nothing: each write is a group of its own
--       then for each write its key and its body (kind, codec, payload)
-- Reply 'OK <seq before the first write> <1: a pool has to be woken> <refused groups, comma separated, from 0>
--       <the limit that refused first: records, bytes, age; turn: others wait> <those of the refused groups for which
--       dead letters alone leave no room> <number of dead letters, 0 if that refused nothing>',
--       'EPOCH' (another history or epoch, or the sequence is used up), 'WRITER' (this writer isn't known),
--       'EARLY' (the request before this one isn't applied)
-- A writer's memory is its last request (8 bytes), the one before (8), the reply to the last, a newline, the other
-- reply.
-- @include keys
-- @include chunks
-- @include clock
-- @include header
-- @include history
-- @include marks
-- @include oldest_since
-- @include try
-- @include wake
-- @include whole
local WRITER = KEYS[10]
local EPOCH, REQUEST, REPEATED, REMEMBERED_MS = ARGV[2], tonumber(ARGV[3]), ARGV[4] == '1', ARGV[5]
local DELAY_MS = tonumber(ARGV[6])
local LIMITS = {records = tonumber(ARGV[7]), bytes = tonumber(ARGV[9]), age = tonumber(ARGV[11])}
local LOW = {records = tonumber(ARGV[8]), bytes = tonumber(ARGV[10]), age = tonumber(ARGV[12])}
local WAITING, AFTER, GROUPS = ARGV[13], tonumber(ARGV[14]), tonumber(ARGV[15])
local FIRST_WRITE = 16 + GROUPS  -- where key, body, key, body, … begin
local pack = struct.pack

-- 1. Whether this request was applied already, and whether it may be applied: order, epoch, writer.

local memory = try('GET', WRITER)
-- Until the end of the checks, a writer that isn't known is treated as one that has sent nothing.
local last, one_before, reply_of_last, reply_of_other = 0, 0, nil, nil
if memory and #memory >= 16 then
  last, one_before = struct.unpack('>I8I8', memory)
  reply_of_last, reply_of_other = string.match(memory, '^([^\n]*)\n?([^\n]*)$', 17)
end
local registered = reply_of_last ~= nil
if not registered then last = 0 end
if REQUEST <= last then
  -- A write in this branch, too, so that a WAITAOF behind this call has something to wait for.
  redis.call('PEXPIRE', WRITER, REMEMBERED_MS)
  -- A request that is sent for the first time can't be known: if it is, another program has written this memory.
  local known = REPEATED and ((REQUEST == last and reply_of_last) or (REQUEST == one_before and reply_of_other))
  return known and string.match(known, '^OK %d+ [01] [%d,]* %l* [%d,]* %d+$') or 'WRITER'
end
if registered and AFTER > last then return 'EARLY' end

local total = (#ARGV - FIRST_WRITE + 1) / 2
local meta = redis.call('HMGET', META, 'identity', 'epoch', 'seq', 'bytes', 'full', 'largest')
local used = whole(meta[3])
if not is_present(meta[1]) or meta[2] ~= EPOCH or not fits(used, total) then return 'EPOCH' end
-- The epoch is checked before the writer's id: a client may register a new id only in the current epoch. If it did so
-- at a server in another one (a replica just promoted, say) and came back, a delayed request under its old id could
-- still be applied here.
if not registered then return 'WRITER' end

-- 2. The keys, and of the record that each has now what matters: its length and the time of its first unsaved write.

local groups, sizes = GROUPS, {}
for g = 1, groups do sizes[g] = tonumber(ARGV[15 + g]) end
if groups == 0 then groups = total end
local keys, names = {}, {}
for i = 1, total do
  local key = ARGV[FIRST_WRITE + 2 * i - 2]
  keys[i] = key
  names[i] = PREFIX .. key
end
local length, first = {}, {}
local function look()
  for i = 1, total, CHUNK do
    local stop = math.min(i + CHUNK - 1, total)
    local records = redis.call('MGET', unpack(names, i, stop))
    for j = i, stop do
      local record = records[j - i + 1]
      if record then
        length[keys[j]] = #record
        if #record >= HEADER then first[keys[j]] = struct.unpack('>I8', record, 9) end
      end
    end
  end
end

-- 3. Room. Limits are checked group by group, since a caller gets all of its writes or none. Only writes that add a
-- record, or bytes, are refused. A full buffer stays full until everything is below its low watermark (hysteresis).

local held = {records = 0, bytes = whole(meta[4]) or 0, age = 0}
local limited = LIMITS.records > 0 or LIMITS.bytes > 0 or LIMITS.age > 0
local live, dead = 0, 0
if limited then look() end
if LIMITS.records > 0 or LIMITS.bytes > 0 then
  live, dead = redis.call('ZCARD', DIRTY) + redis.call('ZCARD', LEASE), redis.call('HLEN', DEAD)
  held.records = live + dead
  -- Whatever the estimate says: a wrong one would refuse all writes while there is nothing left to save.
  if held.records == 0 then held.bytes = 0 end
end
if LIMITS.age > 0 then
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
    if LIMITS[what] > 0 and held[what] > LOW[what] and held[what] > held_by_dead(what) then return what end
  end
end

local was_full = limited and meta[5] == '1'
local full = was_full and above_low()

-- Why there is no room for a group that adds so many records and bytes.
local function refusal(added, grown)
  if full then return full end
  if added > 0 and LIMITS.records > 0 and held.records + added > LIMITS.records then return 'records' end
  if grown > 0 and LIMITS.bytes > 0 and held.bytes + grown > LIMITS.bytes then return 'bytes' end
  if added > 0 and LIMITS.age > 0 and held.age > LIMITS.age then return 'age' end
end

-- Whether there will still be no room for it when all that can be saved has been saved.
local function is_hopeless(added, grown)
  return dead > 0 and ((added > 0 and LIMITS.records > 0 and dead + added > LIMITS.records)
    or (grown > 0 and LIMITS.bytes > 0 and held_by_dead('bytes') + grown > LIMITS.bytes))
end

-- `waiting` has the keys of groups that wait for room: a later group that has one of them must not overtake them.
local in_order, others_wait = WAITING ~= 'none', WAITING == 'others'
local accepted, refused, hopeless, new, waiting, at, why = {}, {}, {}, {}, {}, 0, nil
if not limited then
  for i = 1, total do accepted[i] = i end
end
for g = 1, limited and groups or 0 do
  local added, grown, fresh, stop = 0, 0, {}, at + (sizes[g] or 1)
  local reason = nil
  for i = at + 1, stop do
    local key, size = keys[i], #ARGV[FIRST_WRITE + 2 * i - 1] + HEADER - 2
    if not length[key] and not new[key] and not fresh[key] then added = added + 1 end
    grown = grown + size - (fresh[key] or new[key] or length[key] or 0)
    fresh[key] = size
    if waiting[key] then reason = why end
  end
  local hopes = true
  if added > 0 or (grown > 0 and LIMITS.bytes > 0) then
    local no_room = refusal(added, grown)
    if no_room and is_hopeless(added, grown) then hopes = false end
    reason = no_room or reason or (others_wait and (why or 'turn'))
  end
  if reason then
    refused[#refused + 1] = g - 1
    if why == nil or why == 'turn' then why = reason end
    if not hopes then
      hopeless[#hopeless + 1] = g - 1
    elseif in_order then
      others_wait = true
      for key in pairs(fresh) do waiting[key] = true end
    end
  else
    held.records = held.records + added
    held.bytes = held.bytes + grown
    for key, size in pairs(fresh) do new[key] = size end
    for i = at + 1, stop do accepted[#accepted + 1] = i end
  end
  at = stop
end

-- 4. The keys become dirty, and what is known of their failures is forgotten. This comes before the records, because
-- Lua doesn't roll back and a member without a record is harmless. maxmemory denies the first write, which is this one
-- or the HSET below, so a put is refused as a whole.

local now, behind, ahead, leaps = times(true)
-- As text: a number would be formatted anew for each member.
local due = string.format('%.0f', now + ahead + DELAY_MS)
local leased, any_leased = {}, #accepted > 0 and redis.call('ZCARD', LEASE) > 0
if any_leased then
  local scores = read_all('ZMSCORE', LEASE, keys)
  for i = 1, total do leased[keys[i]] = scores[i] end
end
local dirty, touched, marked = {}, {}, {}
for n = 1, #accepted do
  local key = keys[accepted[n]]
  if not leased[key] then
    dirty[#dirty + 1] = due
    dirty[#dirty + 1] = key
  else
    marked[#marked + 1] = key
  end
end
-- Most of the time no record has failed, and nothing needs to be forgotten.
if #accepted > 0 and redis.call('EXISTS', RETRY, DEAD) > 0 then
  for n = 1, #accepted do touched[n] = keys[accepted[n]] end
end

-- The largest record among those that aren't saved, or a greater size: it bounds what a claim may read at once.
local largest = whole(meta[6]) or 0
local woken, added = 0, 0
if #dirty > 0 then
  local head = redis.call('ZRANGE', DIRTY, 0, 0, 'WITHSCORES')
  for i = 1, #dirty, CHUNK do
    -- The earlier of two times counts (LT): neither a long delay of another process nor the back-off of a failure may
    -- hold up this content.
    added = added + redis.call('ZADD', DIRTY, 'LT', unpack(dirty, i, math.min(i + CHUNK - 1, #dirty)))
  end
  if not head[1] and not any_leased then largest = 0 end
  -- A key that was in none of the sets has no record to look at. (This saves a fifth of the time of a put of new keys.)
  if not limited and (added < #accepted or #touched > 0) then look() end
  -- A pool that sleeps until the present head is due will find these, too; only a new head has to be announced.
  if leaps or not head[1] or tonumber(head[2]) > tonumber(due) then
    woken = 1
    wake()
  end
elseif not limited then
  look()
end
mark(marked)
-- New content has not failed. (HDEL frees memory, so it may not be the first write: the HSET is.)
if #touched > 0 and #dirty == 0 then redis.call('HSET', META, time_fields(now, behind, ahead)) end
if #touched > 0 and redis.call('HLEN', RETRY) > 0 then write_all('HDEL', RETRY, touched) end
if #touched > 0 and redis.call('HLEN', DEAD) > 0 then write_all('HDEL', DEAD, touched) end

-- 5. The records, the sequence number and the estimate of bytes; then the reply, which the writer's memory keeps.

local records, grown = {}, 0
local distinct = added == #accepted  -- each was added to the set, so none comes twice
local epoch, just_now = pack('>I4', tonumber(EPOCH)), pack('>I8', now)
for n = 1, #accepted do
  local i = accepted[n]
  local key, body = keys[i], ARGV[FIRST_WRITE + 2 * i - 1]
  -- While a save of the earlier content runs, this is the first write that it doesn't cover.
  local since = not leased[key] and first[key]
  local size = #body + HEADER - 2
  records[2 * n - 1] = names[i]
  records[2 * n] = epoch .. pack('>I4', used + n) .. (since and since < now and pack('>I8', since) or just_now) .. body
  grown = grown + size - (length[key] or 0)
  if size > largest then largest = size end
  if not distinct then length[key] = size end  -- (4 % of the time of a put.)
end
redis.call('HSET', META, 'seq', string.format('%.0f', used + #accepted),
  'bytes', string.format('%.0f', math.max(0, bytes_before + grown)), 'largest', string.format('%.0f', largest),
  time_fields(now, behind, ahead))
if why and why ~= 'turn' and not was_full and above_low() then redis.call('HSET', META, 'full', 1) end
if was_full and not full and not why then redis.call('HDEL', META, 'full') end
for i = 1, #records, CHUNK do
  redis.call('MSET', unpack(records, i, math.min(i + CHUNK - 1, #records)))
end

local reply = string.format('OK %.0f %d %s %s %s %d', used, woken, table.concat(refused, ','), why or '',
  table.concat(hopeless, ','), #hopeless > 0 and dead or 0)
redis.call('SET', WRITER, pack('>I8I8', REQUEST, last) .. reply .. '\n' .. reply_of_last, 'PX', REMEMBERED_MS)
return reply
