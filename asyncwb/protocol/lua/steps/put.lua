-- put: applies one request of a writer, once. A request holds groups (one per caller), a group holds writes.
-- KEYS  11 writer
-- ARGV  2 epoch  3 request number  4 '1' if an earlier attempt may have been applied  5 ms to remember the writer
--       6 ms until a write is due
--       7 most records  8 low watermark of them  9 most bytes  10 low  11 longest age (ms)  12 low (0: no such limit)
--       13 whether refused groups wait for room: 'none'; 'wait': once a group is refused, so is every later one that
--       needs room or shares a key with it; 'others': as if a group had been refused before all of these
--       14 the request of this writer that has to be applied first, 0 for none: it was sent, but not yet answered
--       15 how many numbers the request takes from the sequence
--       16 which of them each write has, from 1: the first and the last (4 bytes each), since an update may stand for
--       several; '': the first write has the first number, and so on
--       17 '0' if no write is an update or has a condition; '1' if there are updates; '2' if there are conditions, too
--       18 number of groups  19… size of each group; 0 and nothing: each write is a group of its own
--       then for each write its key and its body (kind, codec, payload; for conditions see `judge`)
-- Reply 'OK <seq before the first number> <1: a pool has to be woken> <refused groups, comma separated, from 0>
--       <the limit that refused first: records, bytes, age; turn: others wait> <those of the refused groups for which
--       dead letters alone leave no room> <number of dead letters, 0 if that refused nothing> <refused updates of dead
--       keys, by their places from 0> <conditions that aren't met, see `judge`> <updates of long records>',
--       'EPOCH' (another history or epoch, or the sequence is used up), 'WRITER' (this writer isn't known),
--       'EARLY' (the request before this one isn't applied), 'MODE' (the partition is written through)
-- A writer's memory is its last request (8 bytes), the one before (8), the reply to the last, a newline, the other
-- reply.
-- @include keys
-- @include chunks
-- @include clock
-- @include conditions
-- @include header
-- @include history
-- @include marks
-- @include pending
-- @include records
-- @include room
-- @include try
-- @include updates
-- @include wake
-- @include whole
local WRITER = KEYS[11]
local EPOCH, REQUEST, REPEATED, REMEMBERED_MS = ARGV[2], tonumber(ARGV[3]), ARGV[4] == '1', ARGV[5]
local DELAY_MS = tonumber(ARGV[6])
local LIMITS = {records = tonumber(ARGV[7]), bytes = tonumber(ARGV[9]), age = tonumber(ARGV[11])}
local LOW = {records = tonumber(ARGV[8]), bytes = tonumber(ARGV[10]), age = tonumber(ARGV[12])}
local WAITING, AFTER = ARGV[13], tonumber(ARGV[14])
local TAKES, NUMBERS, SPECIAL, GROUPS = tonumber(ARGV[15]), ARGV[16], ARGV[17] ~= '0', tonumber(ARGV[18])
local CONDITIONS = ARGV[17] == '2'
local FIRST_GROUP = 19
local FIRST_WRITE = FIRST_GROUP + GROUPS  -- where key, body, key, body, … begin
local LONG = 4096  -- bytes: writers fold the updates of records that are longer
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
  return known and string.match(known, '^OK %d+ [01] [%d,]* %l* [%d,]* %d+ [%d,]* [%x:,]* [%d,]*$') or 'WRITER'
end
if registered and AFTER > last then return 'EARLY' end

local meta = redis.call('HMGET', META, 'identity', 'epoch', 'seq', 'bytes', 'full', 'largest', 'mode')
local used = whole(meta[3])
if not is_present(meta[1]) or meta[2] ~= EPOCH or not fits(used, TAKES) then return 'EPOCH' end
-- The epoch is checked before the writer's id: a client may register a new id only in the current epoch. If it did so
-- at a server in another one (a replica just promoted, say) and came back, a delayed request under its old id could
-- still be applied here.
if not registered then return 'WRITER' end
-- A version of a write-through is allotted before it is saved; an update that is worked out meanwhile would lose one.
if SPECIAL and meta[7] == 'write-through' then return 'MODE' end

-- 2. The keys; and where it matters, what each has now: the length of its record and when it was first written.

local keys, bodies, total = {}, {}, 0
local writes = ARGV  -- a global is looked up for each use
for i = FIRST_WRITE, #writes, 2 do
  total = total + 1
  keys[total] = writes[i]
  bodies[total] = writes[i + 1]
end
local epoch = pack('>I4', tonumber(EPOCH))
local firsts, versions, present = {}, {}, nil
local length, first = {}, {}
local function look()
  if SPECIAL then
    for key, record in pairs(present) do length[key] = record and record.length or nil end
    return
  end
  for i = 1, total, CHUNK do
    local stop = math.min(i + CHUNK - 1, total)
    local records = read_records(keys, i, stop)
    for j = i, stop do
      local record = records[j - i + 1]
      if record then
        length[keys[j]] = #record
        if #record >= HEADER then first[keys[j]] = struct.unpack('>I8', record, 9) end
      end
    end
  end
end

-- 3. What is refused is left out from here on. `place` is where a write stands in the request.

local place = nil
local function leave_out(out)
  local kept, was = 0, place
  place = {}
  for i = 1, total do
    if not out[i] then
      kept = kept + 1
      place[kept] = was and was[i] or i
      keys[kept], bodies[kept], firsts[kept], versions[kept] = keys[i], bodies[i], firsts[i], versions[i]
    end
  end
  for i = kept + 1, total do keys[i], bodies[i] = nil, nil end
  total = kept
end

local blocked, unmet = {}, {}
if SPECIAL then
  for i = 1, total do
    local from, to = i, i
    if NUMBERS ~= '' then from, to = struct.unpack('>I4I4', NUMBERS, 8 * i - 7) end
    versions[i] = epoch .. pack('>I4', used + to)
    firsts[i] = from == to and versions[i] or epoch .. pack('>I4', used + from)
  end
  present = look_closely(keys, whole(meta[6]) or SHORT + 1)
end
local room = NO_LIMIT
local bytes = whole(meta[4]) or 0
if LIMITS.records > 0 or LIMITS.bytes > 0 or LIMITS.age > 0 then
  look()
  local request = {keys = keys, bodies = bodies, groups = {}, length = length}
  for g = 1, GROUPS do request.groups[g] = tonumber(ARGV[FIRST_GROUP + g - 1]) end
  room = admit(LIMITS, LOW, WAITING, request, bytes, meta[5] == '1')
  bytes = room.bytes
  if #room.refused > 0 then leave_out(room.out) end
end
if CONDITIONS or (SPECIAL and redis.call('HLEN', DEAD) > 0) then
  local out
  out, blocked, unmet = judge(keys, bodies, versions, present, epoch, place)
  if next(out) then leave_out(out) end
end

-- 4. The keys become dirty, and what is known of their failures is forgotten. This comes before the records, because
-- Lua doesn't roll back and a member without a record is harmless. maxmemory denies the first write, which is this one
-- or the HSET below, so a put is refused as a whole.

local now, behind, ahead, leaps = times(true)
-- As text: a number would be formatted anew for each member. Its fraction makes it a time of this request alone, so its
-- keys stand together at the end of the set, where they are inserted quickly.
local due = string.format('%.3f', now + ahead + DELAY_MS)
-- Most of the time no record has failed, nobody waits to write on a condition, and nothing needs to be forgotten.
local forget = total > 0 and redis.call('EXISTS', RETRY, DEAD, TOKENS) > 0
-- New content has not failed; but an update is added to what has.
local failing = forget and SPECIAL and redis.call('HLEN', RETRY) > 0 and read_all('HMGET', RETRY, keys) or {}
local leased = total > 0 and redis.call('ZCARD', LEASE) > 0 and {}
local dirty, waits, marked = {}, {}, {}
if leased or #failing > 0 then
  local deadlines = leased and read_all('ZMSCORE', LEASE, keys) or {}
  for i = 1, total do
    if deadlines[i] then
      leased[keys[i]] = true
      marked[#marked + 1] = keys[i]
    else
      local list = failing[i] and string.sub(bodies[i], 1, 1) == 'u' and waits or dirty
      list[#list + 1] = due
      list[#list + 1] = keys[i]
    end
  end
else
  for i = 1, total do
    dirty[2 * i - 1] = due
    dirty[2 * i] = keys[i]
  end
end

local woken, added = 0, 0
if #dirty + #waits > 0 then
  local head = redis.call('ZRANGE', DIRTY, 0, 0, 'WITHSCORES')
  for i = 1, #dirty, CHUNK do
    -- The earlier of two times counts (LT): neither a long delay of another process nor the back-off of a failure may
    -- hold up this content.
    added = added + redis.call('ZADD', DIRTY, 'LT', unpack(dirty, i, math.min(i + CHUNK - 1, #dirty)))
  end
  for i = 1, #waits, CHUNK do
    added = added + redis.call('ZADD', DIRTY, 'NX', unpack(waits, i, math.min(i + CHUNK - 1, #waits)))
  end
  -- A pool that sleeps until the present head is due will find these, too; only a new head has to be announced.
  if leaps or not head[1] or tonumber(head[2]) > tonumber(due) then
    woken = 1
    wake()
  end
  -- Where nothing is unsaved, the largest of the unsaved records is found anew.
  if not head[1] and not leased then meta[6] = '0' end
end
mark(marked)
if forget then
  -- HDEL frees memory, so it may not be the first write: the HSET is.
  if #dirty + #waits == 0 then redis.call('HSET', META, time_fields(now, behind, ahead)) end
  local renewed = keys
  if #failing > 0 then
    renewed = {}
    for i = 1, total do
      if string.sub(bodies[i], 1, 1) ~= 'u' then renewed[#renewed + 1] = keys[i] end
    end
  end
  if #renewed > 0 and redis.call('HLEN', RETRY) > 0 then write_all('HDEL', RETRY, renewed) end
  if redis.call('HLEN', DEAD) > 0 then write_all('HDEL', DEAD, keys) end
  if (try('HLEN', TOKENS) or 0) > 0 then write_all('HDEL', TOKENS, keys) end
end

-- 5. The records, the sequence number and the estimate of bytes; then the reply, which the writer's memory keeps.

local records, tails, size, longest = {}, {}, 0, 0
local long = {}
local function note_growth(key, before, after)
  if math.floor(after / LONG) > math.floor(before / LONG) then long[key] = true end
end
local just_now = pack('>I8', now)
if SPECIAL then
  look()
  local new, newest
  new, tails, newest = updated(keys, bodies, firsts, versions, present, leased or {}, just_now)
  for key, record in pairs(new) do
    records[#records + 1] = PREFIX .. key
    records[#records + 1] = record
    local before = length[key] or 0
    size = size + #record - before
    longest = math.max(longest, #record)
    if is_pending(record) then note_growth(key, before, #record) end
  end
  for key, tail in pairs(tails) do
    tails[key] = {tail, newest[key] .. (leased and leased[key] and just_now or '')}
    size = size + #tail
    longest = math.max(longest, length[key] + #tail)
  end
else
  -- Keys that were in none of the sets have no records. (Not to look at those saves a fifth of the time of a put.)
  local known = added < total or forget or room ~= NO_LIMIT
  if known and room == NO_LIMIT then look() end
  for i = 1, total do
    local body, number = bodies[i], place and place[i] or i
    if NUMBERS ~= '' then number = struct.unpack('>I4', NUMBERS, 8 * number - 3) end
    local since = just_now
    if known then
      local key = keys[i]
      -- While a save of the earlier content runs, this is the first write that it doesn't cover.
      local earlier = not (leased and leased[key]) and first[key]
      if earlier and earlier < now then since = pack('>I8', earlier) end
      size = size - (length[key] or 0)
      length[key] = #body + HEADER - 2
    end
    size = size + #body
    if #body > longest then longest = #body end
    records[2 * i - 1] = PREFIX .. keys[i]
    records[2 * i] = epoch .. pack('>I4', used + number) .. since .. body
  end
  size, longest = size + total * (HEADER - 2), longest + HEADER - 2
end
redis.call('HSET', META, 'seq', string.format('%.0f', total > 0 and used + TAKES or used),
  'bytes', string.format('%.0f', math.max(0, bytes + size)),
  'largest', string.format('%.0f', math.max(whole(meta[6]) or 0, total > 0 and longest or 0)),
  time_fields(now, behind, ahead))
if SPECIAL and meta[7] ~= 'updates' then redis.call('HSET', META, 'mode', 'updates') end
if room.fills then redis.call('HSET', META, 'full', 1) elseif room.empties then redis.call('HDEL', META, 'full') end
-- In small chunks, whose memory is used again: a tenth less of the time of a put than all at once.
for i = 1, #records, 128 do redis.call('MSET', unpack(records, i, math.min(i + 127, #records))) end
for key, tail in pairs(tails) do
  redis.call('SETRANGE', PREFIX .. key, 0, tail[2])
  note_growth(key, length[key], redis.call('APPEND', PREFIX .. key, tail[1]))
end
local long_ones = {}
for i = 1, next(long) and total or 0 do
  if long[keys[i]] then long_ones[#long_ones + 1] = (place and place[i] or i) - 1 end
end

local reply = string.format('OK %.0f %d %s %s %s %d %s %s %s', used, woken, table.concat(room.refused, ','),
  room.why or '', table.concat(room.hopeless, ','), #room.hopeless > 0 and room.dead or 0, table.concat(blocked, ','),
  table.concat(unmet, ','), table.concat(long_ones, ','))
redis.call('SET', WRITER, pack('>I8I8', REQUEST, last) .. reply .. '\n' .. reply_of_last, 'PX', REMEMBERED_MS)
return reply
