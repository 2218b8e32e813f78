-- supersede: the backend holds these versions: older ones leave Redis, or a read would return them.
-- ARGV  2… key and version for each
-- Reply how many left
-- @include keys
-- @include allow_at_maxmemory
-- @include count_bytes
-- @include newer
-- @include try
-- @include version_of
allow_at_maxmemory()
local gone, freed = 0, 0
for i = 2, #ARGV, 2 do
  local key, version = ARGV[i], ARGV[i + 1]
  local name = PREFIX .. key
  local present = version_of(key)
  if present ~= '' and not newer(present, version) then
    freed = freed + (try('STRLEN', name) or 0)
    redis.call('DEL', name)
    redis.call('ZREM', DIRTY, key)
    redis.call('ZREM', LEASE, key)
    redis.call('HDEL', DEAD, key)
    redis.call('HDEL', RETRY, key)
    try('HDEL', EXPIRED, key)
    gone = gone + 1
  end
end
if freed > 0 then count_bytes(-freed) end
return gone
