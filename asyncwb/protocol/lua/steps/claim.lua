-- claim: due records go from dirty to lease, in one step. The caller reads them afterwards, on the same connection:
-- another one may lead to another server, whose record is older than the one that the ack would remove.
-- A suspect is a record whose lease has expired: perhaps it kills the process that saves it. Suspects are claimed apart
-- from all others and in ever smaller batches (see recover); one that has to be alone only where that is asked for.
-- ARGV  2 the claim's id  3 most records  4 lease (ms)  5 ms to remember the claim after its leases have ended
--       6 '1': one suspect that has to be alone, or nothing
-- Reply ms until the next record is due (-1: none),
--       1 if a suspect waits that has to be alone; with ARGV 6 how often a process has died that saved it alone,
--       the largest size of a record in bytes, as far as is known, then the keys
-- @include keys
-- @include allow_at_maxmemory
-- @include chunks
-- @include claims
-- @include clock
-- @include origin_of
-- @include try
-- @include version_of
-- @include whole
local CLAIM, MOST, LEASE_MS, REMEMBERED_MS = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local ALONE = ARGV[6] == '1'

allow_at_maxmemory()
-- Suspects may be passed over, so as many more records are looked at.
local suspects = try('HLEN', EXPIRED) or 0
local look_at = MOST + math.min(suspects, CHUNK)
local now = clock()
local due = redis.call('ZRANGEBYSCORE', DIRTY, '-inf', now, 'LIMIT', 0, look_at)
local first = #due
if #due < look_at then
  -- Nothing of asyncwb's is scheduled as far ahead: another program wrote these times.
  local far = redis.call('ZRANGEBYSCORE', DIRTY, '(' .. (now + LONGEST), '+inf', 'LIMIT', 0, look_at - #due)
  for i = 1, #far do due[#due + 1] = far[i] end
end

-- What is noted of a suspect: most records of its claim, and in how many claims it was alone; nil for all others.
local function noted_of(key, entry)
  if not entry or #entry ~= 20 or string.sub(entry, 1, 8) ~= origin_of(key) then return nil end
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

local reply = {-1, waits, whole((try('HMGET', META, 'largest') or {})[1]) or 0}
local leave = math.min(#due, MOST)
if leave > 0 then
  local deadline, lease = new_deadline(LEASE_MS), {}
  for i = 1, leave do
    lease[2 * i - 1] = deadline
    lease[2 * i] = due[i]
    reply[i + 3] = due[i]
  end
  -- Records enter one set before they leave the other: if another program has replaced a set, nothing has moved.
  write_all('ZADD', LEASE, lease)
  -- The ones that are due by their time stand first in the set, so they are removed by rank. (0.4 of 3 µs a record.)
  if first > 0 then redis.call('ZREMRANGEBYRANK', DIRTY, 0, math.min(leave, first) - 1) end
  for i = first + 1, leave do redis.call('ZREM', DIRTY, due[i]) end
  if ALONE then
    local origin = string.sub(origin_of(due[1]) .. NO_VERSION, 1, 8)
    redis.call('HSET', EXPIRED, due[1], origin .. struct.pack('>I4I4I4', 1, waits, 1))
  end
  remember(CLAIM, deadline, REMEMBERED_MS)
end
local head = redis.call('ZRANGE', DIRTY, 0, 0, 'WITHSCORES')
if head[1] then reply[1] = math.max(0, tonumber(head[2]) - now) end
return reply
