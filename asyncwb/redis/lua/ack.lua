-- ack: the whole outcome of a claim in one step, so that a partial failure can't be acked by mistake.
-- KEYS  7 claim
-- ARGV  2 ms until a record that changed meanwhile is due again
--       3 '1': nothing was saved, everything is due at once (a claim whose flusher stops)
--       4 number of versions saved other than the claimed ones, then key, version for each
--       then number of failures, then key, 'retry' or 'dead', ms until due, reason for each
-- Reply saved and gone from Redis, saved but changed meanwhile, to retry, dead; nil if the claim is unknown
allow_at_maxmemory()
local packed = redis.call('GET', KEYS[7])
if not packed then return false end
local claim = cmsgpack.unpack(packed)
local deadline, keys, versions = claim[1], claim[2], claim[3]
local again, release = tonumber(ARGV[2]), ARGV[3] == '1'

local at, actual, failed = 5, {}, {}
for _ = 1, tonumber(ARGV[4]) do
  actual[ARGV[at]] = ARGV[at + 1]
  at = at + 2
end
local failures = tonumber(ARGV[at])
at = at + 1
for _ = 1, failures do
  failed[ARGV[at]] = {dead = ARGV[at + 1] == 'dead', ms = tonumber(ARGV[at + 2]), reason = ARGV[at + 3]}
  at = at + 4
end

local now = clock()
local scores = read_all('ZMSCORE', LEASE, keys)
local notes = redis.call('HLEN', SAVED) > 0 and read_all('HMGET', SAVED, keys) or {}
local gone, changed, retried, buried, freed = 0, 0, 0, 0, 0
local delete, unlease, undirty, dirty, dead, note, unnote, undead = {}, {}, {}, {}, {}, {}, {}, {}

-- Notes what the backend holds; the flag behind the version says that a flush waits and has to see it.
local function remember(key, version, old)
  if not old then
    note[#note + 1] = key
    note[#note + 1] = version
  elseif newer(version, old) then
    note[#note + 1] = key
    note[#note + 1] = version .. string.sub(old, 9)
  end
end

local function settle(i, record)
  local key, version, old = keys[i], actual[keys[i]] or versions[i], notes[i]
  -- A lease that expired may be another claim's by now: what is dirty or leased anew is left alone.
  local mine = scores[i] and tonumber(scores[i]) == deadline
  local failure = failed[key]
  if mine then unlease[#unlease + 1] = key end
  if not record then
    if old and not failure and not release then
      if #old > 8 then remember(key, version, old) else unnote[#unnote + 1] = key end
    end
  elseif failure or release then
    if not mine then return end
    if failure and failure.dead and string.sub(record, 1, 8) == version then
      dead[#dead + 1] = key
      dead[#dead + 1] = version .. struct.pack('>I8', now) .. failure.reason
      buried = buried + 1
    else
      dirty[#dirty + 1] = now + (failure and failure.ms or 0)
      dirty[#dirty + 1] = key
      retried = retried + 1
    end
  elseif string.sub(record, 1, 8) == version then
    delete[#delete + 1] = PREFIX .. key
    undirty[#undirty + 1] = key
    undead[#undead + 1] = key
    if scores[i] and not mine then unlease[#unlease + 1] = key end
    if old and #old > 8 then
      remember(key, version, old)
    elseif old then
      unnote[#unnote + 1] = key
    end
    gone = gone + 1
    freed = freed + #record
  else
    remember(key, version, old)
    changed = changed + 1
    if mine then
      dirty[#dirty + 1] = now + again
      dirty[#dirty + 1] = key
    end
  end
end

for i = 1, #keys, 256 do
  local stop = math.min(i + 255, #keys)
  local records = read_records(keys, i, stop)
  for j = i, stop do settle(j, records[j - i + 1]) end
end

-- Into a set before out of another, and out of all sets before the record goes.
if #dirty > 0 then write_all('ZADD', DIRTY, dirty) end
if #dead > 0 then write_all('HSET', DEAD, dead) end
if #note > 0 then write_all('HSET', SAVED, note) end
if #unnote > 0 then write_all('HDEL', SAVED, unnote) end
if #undead > 0 and redis.call('HLEN', DEAD) > 0 then write_all('HDEL', DEAD, undead) end
if #undirty > 0 then write_all('ZREM', DIRTY, undirty) end
if #unlease > 0 then write_all('ZREM', LEASE, unlease) end
for i = 1, #delete, CHUNK do redis.call('DEL', unpack(delete, i, math.min(i + CHUNK - 1, #delete))) end
if freed > 0 then redis.call('HINCRBY', META, 'bytes', -freed) end
redis.call('DEL', KEYS[7])
return {gone, changed, retried, buried}
