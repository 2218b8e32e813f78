-- ack: ends a claim, with the whole outcome in one step, so that a partial failure can't be acked by mistake. It
-- concerns the records that the claim still holds. Those that were saved are removed, unless they are marked: then they
-- were changed since they were claimed, and stay.
-- ARGV  2 the claim's id
--       3 what becomes of the records that have not failed: 'saved'; 'again', due after ARGV 4; 'now', due at once
--       4 ms until a record that was changed meanwhile is due again
--       5 attempts after which a record is dead (0: never)  6 first and  7 longest back-off (ms)
--       8 how many records were saved  9 their bytes when they were read; with 'again', how many bytes are gone already
--       10 number of failures  11 number of saved records that had updates
--       for each failure: key, what becomes of it, a number, its origin and its version when it was read (see
--       origin_of; eight zeros: another program wrote it), the reason:
--         'retry' an attempt counts; jitter of its back-off, in thousandths
--         'later' none counts; ms until due
--         'dead'  it will never be taken; how often it was tried, 0: as often as is noted
--         'stuck' the same, since an update can't be applied
--       for each saved record that had updates: key, the version that was saved
-- Reply saved and gone from Redis, saved but changed meanwhile, due again without counting,
--       {key, attempts, ms until due, ...} of those to be retried, {key, attempts, ...} of the dead;
--       nil if the claim is unknown
-- @include keys
-- @include allow_at_maxmemory
-- @include chunks
-- @include claims
-- @include clock
-- @include count_bytes
-- @include marks
-- @include newer
-- @include origin_of
-- @include pending
-- @include try
-- @include version_of
-- @include wall
local CLAIM, REST, CHANGED_MS = ARGV[2], ARGV[3], tonumber(ARGV[4])
local MOST_ATTEMPTS, FIRST_BACKOFF, LONGEST_BACKOFF = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local SAVED, SAVED_BYTES = tonumber(ARGV[8]), tonumber(ARGV[9])
local FAILURES, SETTLED = tonumber(ARGV[10]), tonumber(ARGV[11])

-- 1. The records that the claim still holds, and what the flusher says became of them.

allow_at_maxmemory()
local deadline = deadline_of(CLAIM)
if not deadline then return false end
local keys = redis.call('ZRANGEBYSCORE', LEASE, deadline, deadline)
local marks = marks_of(keys)
local tries = redis.call('HLEN', RETRY) > 0 and read_all('HMGET', RETRY, keys) or nil
local failed = {}
for n = 1, FAILURES do
  local at = 6 * n + 6
  failed[ARGV[at]] = {
    what = ARGV[at + 1], number = tonumber(ARGV[at + 2]), origin = ARGV[at + 3], version = ARGV[at + 4],
    reason = ARGV[at + 5],
  }
end
local settled = {}
for n = 1, SETTLED do
  local at = 6 * FAILURES + 2 * n + 10
  settled[ARGV[at]] = ARGV[at + 1]
end

-- 2. What becomes of each. Nothing is written yet; the lists below say what will be.

local now, today, died = noted_clock(), wall(), nil
local changed, released, freed = 0, 0, 0
local retried, buried = {}, {}
local delete, dirty, dead, retry, unretry, unmarked, shorter = {}, {}, {}, {}, {}, {}, {}

-- A record that is gone, since another program has removed it, say, isn't made due.
local function make_due(key, ms)
  if redis.call('EXISTS', PREFIX .. key) == 0 then return end
  dirty[#dirty + 1] = now + ms
  dirty[#dirty + 1] = key
end

-- The time of death of the records that die now: that of the server's clock, but later than any death before, so that a
-- drain can tell which records died since it began.
local function next_death(today)
  return math.max(today, noted_time((try('HMGET', META, 'died') or {})[1]) + 1)
end

-- A record is retried after a back-off, or is dead once its attempts are used up. Attempts are counted by origins.
local function fail(key, failure, old)
  local attempts, since = 1, today
  if old and #old >= 20 and string.sub(old, 1, 8) == failure.origin then
    attempts, since = struct.unpack('>I4I8', old, 9)
    attempts = attempts + 1
  end
  local final = failure.what ~= 'retry'
  if final and failure.number > 0 then attempts = failure.number end
  if final or (MOST_ATTEMPTS > 0 and attempts >= MOST_ATTEMPTS) then
    dead[#dead + 1] = key
    died = died or next_death(today)
    dead[#dead + 1] = version_of(key) .. struct.pack('>I4I8I8', attempts, since, died)
      .. (failure.what == 'stuck' and 'u' or 'r') .. failure.reason
    buried[#buried + 1] = key
    buried[#buried + 1] = attempts
    if old then unretry[#unretry + 1] = key end
  else
    local ms = math.min(LONGEST_BACKOFF, FIRST_BACKOFF * 2 ^ math.min(attempts - 1, 30))
    ms = math.floor(ms * failure.number / 1000)
    retry[#retry + 1] = key
    retry[#retry + 1] = failure.origin .. struct.pack('>I4I8', attempts, since) .. failure.reason
    make_due(key, ms)
    retried[#retried + 1] = key
    retried[#retried + 1] = attempts
    retried[#retried + 1] = ms
  end
end

-- Whether what has failed is still in a record: its origin is the same, and updates that were read are among its own. A
-- replica that was promoted may have begun with the same, and gone on differently.
local function has_failed(key, failure)
  local origin = origin_of(key)
  if origin == '' and redis.call('EXISTS', PREFIX .. key) == 1 then origin = NO_VERSION end
  if origin == '' or origin ~= failure.origin then return false end
  if failure.version == failure.origin then return true end
  local record = try('GET', PREFIX .. key)
  local base = record and is_pending(record) and base_of(record)
  local found = false
  if base then
    each_entry(record, base.entries, function(_, last)
      found = last == failure.version
      return found
    end)
  end
  return found
end

-- The backend holds what a record had up to this version, unless that was put later. What is left has no base: only the
-- updates behind that version, which come on top of what the backend holds.
local function shorten(key, saved)
  local record = try('GET', PREFIX .. key)
  local base = record and is_pending(record) and base_of(record)
  if not base or (base.kind ~= '?' and newer(base.version, saved)) then return end
  local origin, left = nil, nil
  local sound = each_entry(record, base.entries, function(first, last, _, at)
    if newer(last, saved) then
      origin, left = first, at
      return true
    end
  end)
  if not sound or not left or (base.kind == '?' and left == base.entries) then return end
  shorter[key] = pending_of(string.sub(record, 1, 8), string.sub(record, 9, 16), string.sub(record, 18, 18), origin,
    string.sub(record, 27, 34), NEVER, '?', '', string.sub(record, left))
  freed = freed + #record - #shorter[key]
end

for i = 1, #keys do
  local key = keys[i]
  local failure, old, marked = failed[key], tries and tries[i], marks and marks[i] == 1
  if marked then unmarked[#unmarked + 1] = key end
  if failure then
    if failure.what ~= 'later' and has_failed(key, failure) then
      fail(key, failure, old)
    else
      -- What was written meanwhile has not failed.
      make_due(key, failure.what == 'later' and failure.number or 0)
      released = released + 1
    end
  elseif REST ~= 'saved' then
    if settled[key] then shorten(key, settled[key]) end
    -- It was saved, so its attempts are forgotten: a drain makes nothing due that waits for its back-off.
    if old and REST == 'again' then unretry[#unretry + 1] = key end
    make_due(key, REST == 'again' and CHANGED_MS or 0)
    released = released + 1
  else
    if old then unretry[#unretry + 1] = key end
    if marked then
      if settled[key] then shorten(key, settled[key]) end
      make_due(key, CHANGED_MS)
      changed = changed + 1
    else
      delete[#delete + 1] = PREFIX .. key
    end
  end
end

-- 3. Writes: records enter one set before they leave another, and leave all sets before they are deleted.

if #dirty > 0 then write_all('ZADD', DIRTY, dirty) end
if #dead > 0 then
  write_all('HSET', DEAD, dead)
  try('HSET', META, 'died', string.format('%.0f', died))
end
if #retry > 0 then write_all('HSET', RETRY, retry) end
if #unretry > 0 then write_all('HDEL', RETRY, unretry) end
redis.call('ZREMRANGEBYSCORE', LEASE, deadline, deadline)
unmark(unmarked)
for key, record in pairs(shorter) do redis.call('SET', PREFIX .. key, record) end
if #delete > 0 then
  if #delete == SAVED then
    freed = freed + SAVED_BYTES
  else
    for i = 1, #delete do freed = freed + (try('STRLEN', delete[i]) or 0) end
  end
  for i = 1, #delete, CHUNK do redis.call('DEL', unpack(delete, i, math.min(i + CHUNK - 1, #delete))) end
end
if REST == 'again' then freed = freed + SAVED_BYTES end
if freed > 0 then count_bytes(-freed) end
-- Whatever became of the records, saving them has not killed the process.
if REST ~= 'now' and #keys > 0 and (try('HLEN', EXPIRED) or 0) > 0 then write_all('HDEL', EXPIRED, keys) end
redis.call('ZREM', CLAIMS, CLAIM)
return {#delete, changed, released, retried, buried}
