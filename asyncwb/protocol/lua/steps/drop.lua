-- drop: removes dead letters with their records, if they still have the versions that the caller has seen.
-- ARGV  2… key and version for each
-- Reply how many
-- @include keys
-- @include allow_at_maxmemory
-- @include count_bytes
-- @include removal
allow_at_maxmemory()
local dropped, freed = 0, 0
for i = 2, #ARGV, 2 do
  local key, version = ARGV[i], ARGV[i + 1]
  local entry = redis.call('HGET', DEAD, key)
  -- A shorter entry is another program's, and has no version.
  if entry and (string.sub(entry, 1, 8) == version or #entry < 29) then
    freed = freed + remove(key)
    dropped = dropped + 1
  end
end
if freed > 0 then count_bytes(-freed) end
return dropped
