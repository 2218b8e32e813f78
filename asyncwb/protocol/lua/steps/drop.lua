-- drop: dead letters are given up, records and all, if they are still the ones that were meant.
-- ARGV  2… key and version for each
-- Reply how many
-- @include keys
-- @include allow_at_maxmemory
-- @include count_bytes
-- @include try
allow_at_maxmemory()
local dropped, freed = 0, 0
for i = 2, #ARGV, 2 do
  local key, version = ARGV[i], ARGV[i + 1]
  local entry, name = redis.call('HGET', DEAD, key), PREFIX .. key
  -- A shorter entry is another program's, and has no version.
  if entry and (string.sub(entry, 1, 8) == version or #entry < 28) then
    freed = freed + (try('STRLEN', name) or 0)
    redis.call('DEL', name)
    redis.call('HDEL', DEAD, key)
    redis.call('HDEL', RETRY, key)
    try('HDEL', EXPIRED, key)
    dropped = dropped + 1
  end
end
if freed > 0 then count_bytes(-freed) end
return dropped
