-- recover: expired leases become dirty again.
-- Their process may have been killed, frozen or cut off, and perhaps one of these records has killed it. So each claim
-- that ends like this is noted for each of its records, and the next claim of them may have a quarter as many. A record
-- that was alone already is noted once more, and is due after a pause that doubles; all others are due at once. An ack
-- or a new version of the record ends this.
-- What is noted in `expired`: origin (see origin_of), most records of its next claim, how often it was alone, whether
-- it is alone now.
-- ARGV  2 most records  3 first and 4 longest pause (ms)
-- Reply how many
-- @include keys
-- @include allow_at_maxmemory
-- @include chunks
-- @include clock
-- @include marks
-- @include origin_of
-- @include try
-- @include version_of
-- @include wake
local MOST, FIRST_PAUSE, LONGEST_PAUSE = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])

allow_at_maxmemory()
local leaps = false
if redis.call('ZCARD', DIRTY) + redis.call('ZCARD', LEASE) > 0 then
  local steady, behind, ahead
  steady, behind, ahead, leaps = times(true)
  try('HSET', META, time_fields(steady, behind, ahead))
  if leaps then wake() end
end
local now = clock()
local expired = redis.call('ZRANGEBYSCORE', LEASE, '-inf', now, 'LIMIT', 0, MOST)
local ended = #expired
if #expired < MOST then
  -- Another program wrote these times. Recovering too early is safe, because saves are conditional on versions.
  local far = redis.call('ZRANGEBYSCORE', LEASE, '(' .. (now + LONGEST), '+inf', 'LIMIT', 0, MOST - #expired)
  for i = 1, #far do expired[#expired + 1] = far[i] end
end
-- Leases that end because the clock was set back say nothing about a process, nor about its records.
local counts = ended > 0 and not leaps and try('HLEN', EXPIRED)  -- nil where another program has put something else
local entries = counts and read_all('HMGET', EXPIRED, expired) or {}
local deadlines = counts and read_all('ZMSCORE', LEASE, expired) or {}
local sizes, notes = {}, {}

-- Notes that a claim of this record has expired; returns the pause (ms).
local function note(i)
  local key, deadline, entry = expired[i], deadlines[i], entries[i] or ''
  sizes[deadline] = sizes[deadline] or redis.call('ZCOUNT', LEASE, deadline, deadline)
  local origin, bound, deaths = origin_of(key), math.max(1, math.floor(sizes[deadline] / 4)), 0
  if #entry == 20 and string.sub(entry, 1, 8) == origin then
    local before, alone
    before, deaths, alone = struct.unpack('>I4I4I4', entry, 9)
    bound, deaths = math.min(bound, before), deaths + alone
  end
  notes[#notes + 1] = key
  notes[#notes + 1] = string.sub(origin .. NO_VERSION, 1, 8) .. struct.pack('>I4I4I4', bound, deaths, 0)
  return deaths > 0 and math.min(LONGEST_PAUSE, FIRST_PAUSE * 2 ^ math.min(deaths - 1, 30)) or 0
end

local dirty = {}
for i = 1, #expired do
  if redis.call('EXISTS', PREFIX .. expired[i]) == 1 then
    dirty[#dirty + 1] = now + (counts and i <= ended and note(i) or 0)
    dirty[#dirty + 1] = expired[i]
  end
end
if #dirty > 0 then write_all('ZADD', DIRTY, dirty) end
if #notes > 0 then write_all('HSET', EXPIRED, notes) end
if #expired > 0 then write_all('ZREM', LEASE, expired) end
unmark(expired)
return #dirty / 2
