-- ack: the whole outcome of a claim in one step, so that a partial failure can't be acked by mistake.
-- KEYS  8 claim
-- ARGV  2 ms until a record that changed meanwhile is due again
--       3 '1': release, nothing was saved and everything is due at once (a claim whose flusher stops)
--       4 attempts after which a record is dead (0: never)  5 first and  6 longest back-off (ms)
--       7 number of versions saved other than the claimed ones, then key, version for each
--       then number of failures, then for each: key, what becomes of it, a number, the reason:
--         'retry' an attempt counts; jitter of its back-off, in thousandths
--         'later' none counts; ms until due
--         'dead'  it will never be taken; how often it was tried, 0: as often as is noted
-- Reply saved and gone from Redis, saved but changed meanwhile, due again without counting,
--       {key, attempts, ms until due, ...} of those to be retried, {key, attempts, ...} of the dead;
--       nil if the claim is unknown
-- @include keys
-- @include allow_at_maxmemory
-- @include chunks
-- @include claims
-- @include clock
-- @include count_bytes
-- @include records
-- @include try
-- @include version_of
-- @include wall
local CLAIM = KEYS[8]
local CHANGED_MS, RELEASE = tonumber(ARGV[2]), ARGV[3] == '1'
local MOST_ATTEMPTS, FIRST_BACKOFF, LONGEST_BACKOFF = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local OTHER_VERSIONS = tonumber(ARGV[7])

-- 1. The claim, and what the flusher says became of it.

allow_at_maxmemory()
local deadline, keys, versions = read_claim(CLAIM)
if not deadline then return false end
local at, actual, failed = 8, {}, {}
for _ = 1, OTHER_VERSIONS do
  actual[ARGV[at]] = ARGV[at + 1]
  at = at + 2
end
local failures = tonumber(ARGV[at])
at = at + 1
for _ = 1, failures do
  failed[ARGV[at]] = {what = ARGV[at + 1], number = tonumber(ARGV[at + 2]), reason = ARGV[at + 3]}
  at = at + 4
end

-- 2. Which leases this claim still holds. Members are compared and not merely counted, because a later claim may have
-- the same deadline if all leases of this one were gone by then.

local now, today, died = noted_clock(), wall(), nil
local at_deadline, held, ours = redis.call('ZRANGEBYSCORE', LEASE, deadline, deadline), {}, {}
for i = 1, #at_deadline do held[at_deadline[i]] = true end
local tries = redis.call('HLEN', RETRY) > 0 and read_all('HMGET', RETRY, keys) or {}

-- 3. What becomes of each record. Nothing is written yet; the lists below say what will be.

local gone, changed, released, freed = 0, 0, 0, 0
local retried, buried = {}, {}
local delete, unlease, undirty, dirty, dead, undead, retry, unretry = {}, {}, {}, {}, {}, {}, {}, {}

local function make_due(key, ms)
  dirty[#dirty + 1] = now + ms
  dirty[#dirty + 1] = key
end

-- The time of death of the records that die now: that of the server's clock, but later than any death before, so that a
-- drain can tell which records died since it began.
local function next_death(today)
  return math.max(today, noted_time((try('HMGET', META, 'died') or {})[1]) + 1)
end

-- A record is retried after a back-off, or is dead once its attempts are used up. Attempts are counted for each
-- version.
local function fail(key, version, failure, old)
  local attempts, since = 1, today
  if old and #old >= 20 and string.sub(old, 1, 8) == version then
    attempts, since = struct.unpack('>I4I8', old, 9)
    attempts = attempts + 1
  end
  if failure.what == 'dead' and failure.number > 0 then attempts = failure.number end
  if failure.what == 'dead' or (MOST_ATTEMPTS > 0 and attempts >= MOST_ATTEMPTS) then
    dead[#dead + 1] = key
    died = died or next_death(today)
    dead[#dead + 1] = string.sub(version .. NO_VERSION, 1, 8) .. struct.pack('>I4I8I8', attempts, since, died)
      .. failure.reason
    buried[#buried + 1] = key
    buried[#buried + 1] = attempts
    if old then unretry[#unretry + 1] = key end
  else
    local ms = math.min(LONGEST_BACKOFF, FIRST_BACKOFF * 2 ^ math.min(attempts - 1, 30))
    ms = math.floor(ms * failure.number / 1000)
    retry[#retry + 1] = key
    retry[#retry + 1] = version .. struct.pack('>I4I8', attempts, since) .. failure.reason
    make_due(key, ms)
    retried[#retried + 1] = key
    retried[#retried + 1] = attempts
    retried[#retried + 1] = ms
  end
end

local function decide(i, record)
  local key, version = keys[i], actual[keys[i]] or versions[i]
  -- A lease that expired may belong to another claim by now: a record that is dirty or leased again is left alone.
  local mine = held[key]
  local failure = failed[key]
  if mine then ours[#ours + 1] = key end
  if tries[i] and not failure and not RELEASE then unretry[#unretry + 1] = key end
  if not record then return end
  if failure or RELEASE then
    if not mine then return end
    if failure and failure.what ~= 'later' and string.sub(record, 1, 8) == version then
      fail(key, version, failure, tries[i])
    else
      -- What was written meanwhile has not failed.
      make_due(key, failure and failure.what == 'later' and failure.number or 0)
      released = released + 1
    end
  elseif string.sub(record, 1, 8) == version then
    delete[#delete + 1] = PREFIX .. key
    if not mine then  -- what is leased isn't dirty; it may be another claim's by now
      undirty[#undirty + 1] = key
      unlease[#unlease + 1] = key
    end
    undead[#undead + 1] = key
    gone = gone + 1
    freed = freed + #record
  else
    changed = changed + 1
    if mine then make_due(key, CHANGED_MS) end
  end
end

for i = 1, #keys, 256 do
  local stop = math.min(i + 255, #keys)
  local records = read_present(keys, i, stop)
  for j = i, stop do decide(j, records[j - i + 1]) end
end

-- 4. Writes: records enter one set before they leave another, and leave all sets before they are deleted.

if #dirty > 0 then write_all('ZADD', DIRTY, dirty) end
if #dead > 0 then
  write_all('HSET', DEAD, dead)
  try('HSET', META, 'died', string.format('%.0f', died))
end
if #retry > 0 then write_all('HSET', RETRY, retry) end
if #unretry > 0 then write_all('HDEL', RETRY, unretry) end
if #undead > 0 and redis.call('HLEN', DEAD) > 0 then write_all('HDEL', DEAD, undead) end
if #undirty > 0 then write_all('ZREM', DIRTY, undirty) end
if #ours == #at_deadline then
  redis.call('ZREMRANGEBYSCORE', LEASE, deadline, deadline)
else
  write_all('ZREM', LEASE, ours)
end
if #unlease > 0 then write_all('ZREM', LEASE, unlease) end
for i = 1, #delete, CHUNK do redis.call('DEL', unpack(delete, i, math.min(i + CHUNK - 1, #delete))) end
if freed > 0 then count_bytes(-freed) end
-- Whatever became of the records, saving them has not killed the process.
if not RELEASE and (try('HLEN', EXPIRED) or 0) > 0 then write_all('HDEL', EXPIRED, keys) end
redis.call('DEL', CLAIM)
return {gone, changed, released, retried, buried}
