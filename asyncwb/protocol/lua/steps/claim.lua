-- claim: due records go from dirty to lease, in one step, bounded in number and in bytes.
-- A suspect is a record whose lease has expired: perhaps it kills the process that saves it. Suspects are claimed apart
-- from all others and in ever smaller batches (see recover); one that has to be alone only where that is asked for.
-- KEYS  8 claim
-- ARGV  2 most records  3 most bytes (one larger record still goes alone)  4 lease (ms)  5 ms to keep the claim
--       6 '1': one suspect that has to be alone, or nothing
-- Reply ms until the next record is due (-1: none),
--       1 if a suspect waits that has to be alone; with ARGV 6 how often a process has died that saved it alone,
--       then key, record, key, record, …
-- @include keys
-- @include allow_at_maxmemory
-- @include chunks
-- @include claims
-- @include clock
-- @include records
-- @include try
-- @include version_of
local CLAIM = KEYS[8]
local MOST, BUDGET = tonumber(ARGV[2]), tonumber(ARGV[3])
local LEASE_MS, KEPT_MS, ALONE = tonumber(ARGV[4]), ARGV[5], ARGV[6] == '1'

allow_at_maxmemory()
-- Suspects may be passed over, so as many more records are looked at.
local suspects = try('HLEN', EXPIRED) or 0
local look_at = MOST + math.min(suspects, CHUNK)
local now = clock()
local deadline = new_deadline(LEASE_MS)
local due = redis.call('ZRANGEBYSCORE', DIRTY, '-inf', now, 'LIMIT', 0, look_at)
local first = #due
if #due < look_at then
  -- Nothing of asyncwb's is scheduled as far ahead: another program wrote these times.
  local far = redis.call('ZRANGEBYSCORE', DIRTY, '(' .. (now + LONGEST), '+inf', 'LIMIT', 0, look_at - #due)
  for i = 1, #far do due[#due + 1] = far[i] end
end

-- What is noted of a suspect: most records of its claim, and in how many claims it was alone; nil for all others.
local function noted_of(key, entry)
  if not entry or #entry ~= 20 or string.sub(entry, 1, 8) ~= version_of(key) then return nil end
  local bound, deaths = struct.unpack('>I4I4', entry, 9)
  return math.max(1, bound), deaths
end

-- The first of `due` decides whether this claim is one of suspects.
local function pick(due)
  local entries = #due > 0 and suspects > 0 and read_all('HMGET', EXPIRED, due) or {}
  local picked, limit, kind, lonely = {}, MOST, nil, 0
  for i = 1, #due do
    local bound, deaths = noted_of(due[i], entries[i])
    if ALONE then
      if bound == 1 then return {due[i]}, deaths end
    elseif bound == 1 then
      lonely = 1
    elseif kind == nil or kind == (bound ~= nil) then
      kind = bound ~= nil
      limit = math.min(limit, bound or limit)
      if #picked >= limit then break end
      picked[#picked + 1] = due[i]
    end
  end
  return picked, lonely
end

local waits = 0
if ALONE or suspects > 0 then
  due, waits = pick(due)
  first = 0
end

local reply, leave, lease, keys, versions, bytes = {-1, waits}, 0, {}, {}, {}, 0
local at, step = 1, 8
-- In steps that begin small, so that a batch of large records isn't read as a whole when the budget allows only a few.
while at <= #due and (bytes < BUDGET or #keys == 0) do
  local stop = math.min(at + step - 1, #due)
  local records = read_present(due, at, stop)
  for i = at, stop do
    local record, key = records[i - at + 1], due[i]
    if not record then
      leave = i
    elseif #keys == 0 or bytes + #record <= BUDGET then
      bytes = bytes + #record
      leave = i
      lease[#lease + 1] = deadline
      lease[#lease + 1] = key
      keys[#keys + 1] = key
      versions[#versions + 1] = string.sub(record, 1, 8)
      reply[#reply + 1] = key
      reply[#reply + 1] = record
    else
      bytes = BUDGET
      break
    end
  end
  at = stop + 1
  step = math.min(step * 2, CHUNK)
end

-- Records enter one set before they leave the other: if another program has replaced a set, nothing has moved.
if #keys > 0 then write_all('ZADD', LEASE, lease) end
-- Those that leave are the first of `due`, and the ones among them that are due by their time stand first in the set,
-- so they are removed by rank. (This saves 0.4 of 3 µs a record.)
if leave > 0 and first > 0 then redis.call('ZREMRANGEBYRANK', DIRTY, 0, math.min(leave, first) - 1) end
for i = first + 1, leave do redis.call('ZREM', DIRTY, due[i]) end
if ALONE and #keys > 0 then
  redis.call('HSET', EXPIRED, keys[1], versions[1] .. struct.pack('>I4I4I4', 1, waits, 1))
end
if #keys > 0 then
  redis.call('SET', CLAIM, cmsgpack.pack({deadline, keys, versions}), 'PX', KEPT_MS)
end
local head = redis.call('ZRANGE', DIRTY, 0, 0, 'WITHSCORES')
if head[1] then reply[1] = math.max(0, tonumber(head[2]) - now) end
return reply
