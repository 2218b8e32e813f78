-- supersede: the backend holds these versions: older ones leave Redis, or a read would return them.
-- ARGV  2… key and version for each
-- Reply how many left
allow_at_maxmemory()
local gone, freed = 0, 0
for i = 2, #ARGV, 2 do
  local key, version = ARGV[i], ARGV[i + 1]
  local name = PREFIX .. key
  local present = redis.call('GETRANGE', name, 0, 7)
  if #present == 8 and not newer(present, version) then
    freed = freed + redis.call('STRLEN', name)
    redis.call('ZREM', DIRTY, key)
    redis.call('ZREM', LEASE, key)
    redis.call('HDEL', DEAD, key)
    redis.call('HDEL', RETRY, key)
    redis.call('DEL', name)
    gone = gone + 1
  end
end
if freed > 0 then redis.call('HINCRBY', META, 'bytes', -freed) end
return gone
