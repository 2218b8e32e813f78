-- supersede: removes records that are not newer than what the backend holds, or a read would return them.
-- ARGV  2… key and version for each
-- Reply how many left
-- @include allow_at_maxmemory
-- @include count_bytes
-- @include newer
-- @include removal
-- @include version_of
allow_at_maxmemory()
local gone, freed = 0, 0
for i = 2, #ARGV, 2 do
  local key, version = ARGV[i], ARGV[i + 1]
  local present = version_of(key)
  if present ~= '' and not newer(present, version) then
    freed = freed + remove(key)
    gone = gone + 1
  end
end
if freed > 0 then count_bytes(-freed) end
return gone
