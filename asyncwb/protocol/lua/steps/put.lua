-- put: applies one request of a writer, once. A request holds groups (one per caller), a group holds writes.
-- KEYS  10 writer
-- ARGV  2 epoch  3 request number  4 '1' if an earlier attempt may have been applied  5 ms to remember the writer
--       6 ms until a write is due
--       7 most records  8 low watermark of them  9 most bytes  10 low  11 longest age (ms)  12 low (0: no such limit)
--       13 whether refused groups wait for room: 'none'; 'wait': once a group is refused, so is every later one that
--       needs room or shares a key with it; 'others': as if a group had been refused before all of these
--       14 the request of this writer that has to be applied first, 0 for none: it was sent, but not yet answered
--       15 how many numbers the request takes from the sequence
--       16 which of them each write has, from 1 (4 bytes each); '': the first has the first, and so on
--       17 number of groups  18… size of each group; 0 and nothing: each write is a group of its own
--       then for each write its key and its body (kind, codec, payload)
-- Reply 'OK <seq before the first number> <1: a pool has to be woken> <refused groups, comma separated, from 0>
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
-- @include room
-- @include try
-- @include wake
-- @include whole
local WRITER = KEYS[10]
local EPOCH, REQUEST, REPEATED, REMEMBERED_MS = ARGV[2], tonumber(ARGV[3]), ARGV[4] == '1', ARGV[5]
local DELAY_MS = tonumber(ARGV[6])
local LIMITS = {records = tonumber(ARGV[7]), bytes = tonumber(ARGV[9]), age = tonumber(ARGV[11])}
local LOW = {records = tonumber(ARGV[8]), bytes = tonumber(ARGV[10]), age = tonumber(ARGV[12])}
local WAITING, AFTER = ARGV[13], tonumber(ARGV[14])
local TAKES, NUMBERS, GROUPS = tonumber(ARGV[15]), ARGV[16], tonumber(ARGV[17])
local FIRST_WRITE = 18 + GROUPS  -- where key, body, key, body, … begin
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

local meta = redis.call('HMGET', META, 'identity', 'epoch', 'seq', 'bytes', 'full', 'largest')
local used = whole(meta[3])
if not is_present(meta[1]) or meta[2] ~= EPOCH or not fits(used, TAKES) then return 'EPOCH' end
-- The epoch is checked before the writer's id: a client may register a new id only in the current epoch. If it did so
-- at a server in another one (a replica just promoted, say) and came back, a delayed request under its old id could
-- still be applied here.
if not registered then return 'WRITER' end

-- 2. The keys; and where it matters, of the record that each has now: its length, and when it was first written.

local keys, total = {}, 0
for i = FIRST_WRITE, #ARGV, 2 do
  total = total + 1
  keys[total] = ARGV[i]
end
local length, first = {}, {}
local function look()
  for i = 1, total, CHUNK do
    local names, stop = {}, math.min(i + CHUNK - 1, total)
    for j = i, stop do names[j - i + 1] = PREFIX .. keys[j] end
    local records = redis.call('MGET', unpack(names))
    for j = i, stop do
      local record = records[j - i + 1]
      if record then
        length[keys[j]] = #record
        if #record >= HEADER then first[keys[j]] = struct.unpack('>I8', record, 9) end
      end
    end
  end
end

-- 3. Room: the writes of refused groups are left out from here on. `place` is where a write stands in the request.

local room, place = NO_LIMIT, nil
local bytes = whole(meta[4]) or 0
if LIMITS.records > 0 or LIMITS.bytes > 0 or LIMITS.age > 0 then
  look()
  local sizes, groups = {}, {}
  for i = 1, total do sizes[i] = #ARGV[FIRST_WRITE + 2 * i - 1] + HEADER - 2 end
  for g = 1, GROUPS do groups[g] = tonumber(ARGV[17 + g]) end
  local request = {keys = keys, sizes = sizes, groups = groups, length = length}
  room = admit(LIMITS, LOW, WAITING, request, bytes, meta[5] == '1')
  bytes = room.bytes
  if #room.refused > 0 then
    place = room.accepted
    for i = 1, total do keys[i] = place[i] and keys[place[i]] or nil end
    total = #place
  end
end

-- 4. The keys become dirty, and what is known of their failures is forgotten. This comes before the records, because
-- Lua doesn't roll back and a member without a record is harmless. maxmemory denies the first write, which is this one
-- or the HSET below, so a put is refused as a whole.

local now, behind, ahead, leaps = times(true)
-- As text: a number would be formatted anew for each member. Its fraction makes it a time of this request alone, so its
-- keys stand together in the set; where they come in order, each is inserted next to the one before.
local due = string.format('%.3f', now + ahead + DELAY_MS)
local leased = total > 0 and redis.call('ZCARD', LEASE) > 0 and {}
local dirty, marked = {}, {}
if leased then
  local deadlines = read_all('ZMSCORE', LEASE, keys)
  for i = 1, total do
    if deadlines[i] then
      leased[keys[i]] = true
      marked[#marked + 1] = keys[i]
    else
      dirty[#dirty + 1] = due
      dirty[#dirty + 1] = keys[i]
    end
  end
else
  for i = 1, total do
    dirty[2 * i - 1] = due
    dirty[2 * i] = keys[i]
  end
end
-- Most of the time no record has failed, and nothing needs to be forgotten.
local failures = total > 0 and redis.call('EXISTS', RETRY, DEAD) > 0

local woken, added = 0, 0
if #dirty > 0 then
  local head = redis.call('ZRANGE', DIRTY, 0, 0, 'WITHSCORES')
  for i = 1, #dirty, CHUNK do
    -- The earlier of two times counts (LT): neither a long delay of another process nor the back-off of a failure may
    -- hold up this content.
    added = added + redis.call('ZADD', DIRTY, 'LT', unpack(dirty, i, math.min(i + CHUNK - 1, #dirty)))
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
-- New content has not failed. (HDEL frees memory, so it may not be the first write: the HSET is.)
if failures and #dirty == 0 then redis.call('HSET', META, time_fields(now, behind, ahead)) end
if failures and redis.call('HLEN', RETRY) > 0 then write_all('HDEL', RETRY, keys) end
if failures and redis.call('HLEN', DEAD) > 0 then write_all('HDEL', DEAD, keys) end

-- 5. The records, the sequence number and the estimate of bytes; then the reply, which the writer's memory keeps.

local records, size, largest, longest = {}, total * (HEADER - 2), whole(meta[6]) or 0, 0
local epoch, just_now = pack('>I4', tonumber(EPOCH)), pack('>I8', now)
-- Keys that were in none of the sets have no records. (Not to look at those saves a fifth of the time of a put.)
local known = added < total or failures or room ~= NO_LIMIT
if known and room == NO_LIMIT then look() end
for i = 1, total do
  local at = place and place[i] or i
  local body, number = ARGV[FIRST_WRITE + 2 * at - 1], NUMBERS == '' and at or struct.unpack('>I4', NUMBERS, 4 * at - 3)
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
redis.call('HSET', META, 'seq', string.format('%.0f', total > 0 and used + TAKES or used),
  'bytes', string.format('%.0f', math.max(0, bytes + size)),
  'largest', string.format('%.0f', total > 0 and math.max(largest, longest + HEADER - 2) or largest),
  time_fields(now, behind, ahead))
if room.fills then redis.call('HSET', META, 'full', 1) elseif room.empties then redis.call('HDEL', META, 'full') end
for i = 1, #records, CHUNK do
  redis.call('MSET', unpack(records, i, math.min(i + CHUNK - 1, #records)))
end

local reply = string.format('OK %.0f %d %s %s %s %d', used, woken, table.concat(room.refused, ','), room.why or '',
  table.concat(room.hopeless, ','), #room.hopeless > 0 and room.dead or 0)
redis.call('SET', WRITER, pack('>I8I8', REQUEST, last) .. reply .. '\n' .. reply_of_last, 'PX', REMEMBERED_MS)
return reply
