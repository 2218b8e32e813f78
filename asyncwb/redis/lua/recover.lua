-- recover: expired leases become dirty again, due at once.
-- ARGV  2 most records
-- Reply how many
allow_at_maxmemory()
local most = tonumber(ARGV[2])
local now = clock()
local expired = redis.call('ZRANGEBYSCORE', LEASE, '-inf', now, 'LIMIT', 0, most)
if #expired < most then
  -- Leased by a clock that has been set back since. Too early is safe: saves are conditional on versions.
  local far = redis.call('ZRANGEBYSCORE', LEASE, '(' .. (now + LONGEST), '+inf', 'LIMIT', 0, most - #expired)
  for i = 1, #far do expired[#expired + 1] = far[i] end
end
local dirty = {}
for i = 1, #expired do
  if redis.call('EXISTS', PREFIX .. expired[i]) == 1 then
    dirty[#dirty + 1] = now
    dirty[#dirty + 1] = expired[i]
  end
end
if #dirty > 0 then write_all('ZADD', DIRTY, dirty) end
if #expired > 0 then write_all('ZREM', LEASE, expired) end
return #dirty / 2
