-- audit: keys that have a record but are in no set become dirty again.
-- ARGV  2… keys
-- Reply how many were in no set, and the bytes of all these records
-- @include keys
-- @include allow_at_maxmemory
-- @include clock
-- @include try
-- @include wake
allow_at_maxmemory()
local now = clock()
local strays, bytes = 0, 0
for i = 2, #ARGV do
  local key = ARGV[i]
  if key ~= '' and redis.call('EXISTS', PREFIX .. key) == 1 then
    bytes = bytes + (try('STRLEN', PREFIX .. key) or 0)
    if not redis.call('ZSCORE', DIRTY, key) and not redis.call('ZSCORE', LEASE, key)
      and redis.call('HEXISTS', DEAD, key) == 0 then
      redis.call('ZADD', DIRTY, now, key)
      strays = strays + 1
    end
  end
end
if strays > 0 then wake() end
return {strays, bytes}
