-- drop: removes dead letters with their records, if they still have the versions that the caller has seen.
-- ARGV  2… key and version for each
-- Reply how many
-- @include keys
-- @include allow_at_maxmemory
-- @include count_bytes
-- @include dropped
-- @include removal
-- @include version_of
allow_at_maxmemory()
local dropped, versions = {}, {}
for i = 2, #ARGV, 2 do
  local key, version = ARGV[i], ARGV[i + 1]
  local entry = redis.call('HGET', DEAD, key)
  -- A shorter entry is another program's, and has no version.
  if entry and (string.sub(entry, 1, 8) == version or #entry < 29) then
    dropped[#dropped + 1] = key
    versions[#dropped] = version_of(key)
  end
end
if #dropped > 0 then note_dropped(versions) end
local freed = 0
for i = 1, #dropped do freed = freed + remove(dropped[i]) end
if freed > 0 then count_bytes(-freed) end
return #dropped
